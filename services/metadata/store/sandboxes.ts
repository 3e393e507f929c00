import { create, fromBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { ErrorKind, type FlotillaError, failure, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { timestampOf } from "#base/times.ts";
import { withoutEmptyLabels } from "#containerd/labels.ts";
import { type Sandbox, Sandbox_RuntimeSchema, SandboxSchema } from "#gen/containerd/types/sandbox_pb.ts";
import { ResourceKind } from "../domain/resource.ts";
import { updateSandbox, validateSandbox } from "../domain/sandbox.ts";
import type { NamespaceContents, NamespaceStore } from "./namespaces.ts";
import { RecordTable } from "./record-table.ts";
import type { Records } from "./records.ts";

/**
 * Records of sandboxes. What runs belongs to the sandbox controllers.
 *
 * @source containerd v2.3.4 core/metadata/sandbox.go
 */
export class SandboxStore implements NamespaceContents {
  readonly table: RecordTable<typeof SandboxSchema>;
  readonly #records: Records;
  readonly #namespaces: NamespaceStore;

  constructor(records: Records, namespaces: NamespaceStore) {
    this.#records = records;
    this.#namespaces = namespaces;
    this.table = new RecordTable(records, {
      table: "sandboxes",
      nameColumn: "id",
      schema: SandboxSchema,
      resource: ResourceKind.Sandbox,
    });
  }

  /** The encoded record of a sandbox. */
  get(namespace: string, id: string): Uint8Array {
    this.#requireAny(namespace);
    return this.table.get(namespace, id, () => sandboxNotFound(id));
  }

  /** @returns The encoded record. */
  create(namespace: string, wanted: Sandbox): Promise<Uint8Array> {
    return this.#records.write(() => {
      try {
        validateSandbox(wanted.sandboxId);
      } catch (error) {
        throw wrapFailure(error, "failed to validate sandbox");
      }
      if (this.table.has(namespace, wanted.sandboxId)) {
        throw failure(ErrorKind.AlreadyExists, `write error: sandbox bucket ${quote(wanted.sandboxId)} already exists`);
      }
      this.#namespaces.ensure(namespace, "sandboxes");
      const now = timestampOf(this.#records.clock());
      return this.table.put(namespace, wanted.sandboxId, {
        ...wanted,
        runtime: wanted.runtime ?? create(Sandbox_RuntimeSchema),
        labels: withoutEmptyLabels(wanted.labels),
        createdAt: now,
        updatedAt: now,
      });
    });
  }

  /** @param paths - Fields to take over; none takes over all that may change. */
  update(namespace: string, wanted: Sandbox, paths: readonly string[]): Promise<Sandbox> {
    return this.#records.write(() => {
      const before = fromBinary(SandboxSchema, this.get(namespace, wanted.sandboxId));
      const sandbox = { ...before };
      updateSandbox(sandbox, wanted, paths, create(AnySchema));
      sandbox.runtime ??= create(Sandbox_RuntimeSchema);
      sandbox.labels = withoutEmptyLabels(sandbox.labels);
      sandbox.updatedAt = timestampOf(this.#records.clock());
      // containerd answers with what was asked for, and yet never removes an extension, the spec or the runtime's options.
      this.table.put(namespace, sandbox.sandboxId, {
        ...sandbox,
        extensions: { ...before.extensions, ...sandbox.extensions },
        spec: sandbox.spec ?? before.spec,
        runtime: { ...sandbox.runtime, options: sandbox.runtime.options ?? before.runtime?.options },
      });
      return sandbox;
    });
  }

  remove(namespace: string, id: string): Promise<void> {
    return this.#records.write(() => {
      this.#requireAny(namespace);
      if (!this.table.remove(namespace, id)) {
        throw failure(ErrorKind.NotFound, `failed to delete sandbox ${quote(id)}`);
      }
    });
  }

  removeNamespace(namespace: string): void {
    this.table.removeNamespace(namespace);
  }

  #requireAny(namespace: string): void {
    if (!this.#namespaces.hasEverHad(namespace, "sandboxes")) {
      throw failure(ErrorKind.NotFound, "no sandbox buckets");
    }
  }
}

function sandboxNotFound(id: string): FlotillaError {
  return failure(ErrorKind.NotFound, `bucket ${quote(id)} not found`);
}
