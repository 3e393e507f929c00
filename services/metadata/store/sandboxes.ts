import { clone, create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { ErrorKind, failure, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { timestampOf } from "#base/times.ts";
import { withoutEmptyLabels } from "#containerd/labels.ts";
import { type Sandbox, Sandbox_RuntimeSchema, SandboxSchema } from "#gen/containerd/types/sandbox_pb.ts";
import type { Statement } from "#sqlite/open.ts";
import { readReferenceFacts } from "../domain/reference-labels.ts";
import { type Resource, ResourceKind } from "../domain/resource.ts";
import { updateSandbox, validateSandbox } from "../domain/sandbox.ts";
import type { NamespaceContents, NamespaceStore } from "./namespaces.ts";
import type { Records } from "./records.ts";

/**
 * Records of sandboxes. What runs belongs to the sandbox controllers.
 *
 * @source containerd v2.3.4 core/metadata/sandbox.go
 */
export class SandboxStore implements NamespaceContents {
  readonly #records: Records;
  readonly #namespaces: NamespaceStore;
  readonly #find: Statement<[string, string], Uint8Array>;
  readonly #list: Statement<[string], Uint8Array>;
  readonly #put: Statement<[string, string, Uint8Array]>;
  readonly #remove: Statement<[string, string]>;
  readonly #removeAll: Statement<[string]>;

  constructor(records: Records, namespaces: NamespaceStore) {
    const { database } = records;
    this.#records = records;
    this.#namespaces = namespaces;
    this.#find = database
      .prepare<[string, string], Uint8Array>("SELECT message FROM sandboxes WHERE namespace = ? AND id = ?")
      .pluck();
    this.#list = database
      .prepare<[string], Uint8Array>("SELECT message FROM sandboxes WHERE namespace = ? ORDER BY id")
      .pluck();
    this.#put = database.prepare(
      `INSERT INTO sandboxes (namespace, id, message) VALUES (?, ?, ?)
       ON CONFLICT (namespace, id) DO UPDATE SET message = excluded.message`,
    );
    this.#remove = database.prepare("DELETE FROM sandboxes WHERE namespace = ? AND id = ?");
    this.#removeAll = database.prepare("DELETE FROM sandboxes WHERE namespace = ?");
  }

  /** The encoded record of a sandbox. */
  get(namespace: string, id: string): Uint8Array {
    this.#requireAny(namespace);
    const message = this.#find.get(namespace, id);
    if (message === undefined) {
      throw failure(ErrorKind.NotFound, `bucket ${quote(id)} not found`);
    }
    return message;
  }

  /** The encoded records of a namespace by id. */
  list(namespace: string): Uint8Array[] {
    return this.#list.all(namespace);
  }

  create(namespace: string, wanted: Sandbox): Promise<Sandbox> {
    return this.#records.write(() => {
      try {
        validateSandbox(wanted.sandboxId);
      } catch (error) {
        throw wrapFailure(error, "failed to validate sandbox");
      }
      if (this.#find.get(namespace, wanted.sandboxId) !== undefined) {
        throw failure(ErrorKind.AlreadyExists, `write error: sandbox bucket ${quote(wanted.sandboxId)} already exists`);
      }
      this.#namespaces.ensure(namespace, "sandboxes");
      const now = timestampOf(this.#records.clock());
      const sandbox = clone(SandboxSchema, wanted);
      sandbox.runtime ??= create(Sandbox_RuntimeSchema);
      sandbox.labels = withoutEmptyLabels(wanted.labels);
      sandbox.createdAt = now;
      sandbox.updatedAt = now;
      this.#store(namespace, sandbox);
      return sandbox;
    });
  }

  /** @param paths - Fields to take over; none takes over all that may change. */
  update(namespace: string, wanted: Sandbox, paths: readonly string[]): Promise<Sandbox> {
    return this.#records.write(() => {
      const before = fromBinary(SandboxSchema, this.get(namespace, wanted.sandboxId));
      const sandbox = clone(SandboxSchema, before);
      updateSandbox(sandbox, wanted, paths, create(AnySchema));
      sandbox.runtime ??= create(Sandbox_RuntimeSchema);
      sandbox.labels = withoutEmptyLabels(sandbox.labels);
      sandbox.updatedAt = timestampOf(this.#records.clock());
      // containerd answers with what was asked for, and yet never removes an extension, the spec or the runtime's options.
      const stored = clone(SandboxSchema, sandbox);
      stored.extensions = { ...before.extensions, ...sandbox.extensions };
      stored.spec ??= before.spec;
      stored.runtime ??= create(Sandbox_RuntimeSchema);
      stored.runtime.options ??= before.runtime?.options;
      this.#store(namespace, stored);
      return sandbox;
    });
  }

  remove(namespace: string, id: string): Promise<void> {
    return this.#records.write(() => {
      this.#requireAny(namespace);
      if (this.#remove.run(namespace, id).changes === 0) {
        throw failure(ErrorKind.NotFound, `failed to delete sandbox ${quote(id)}`);
      }
      this.#records.graph.remove(resourceOf(namespace, id));
    });
  }

  removeNamespace(namespace: string): void {
    this.#removeAll.run(namespace);
  }

  #requireAny(namespace: string): void {
    if (!this.#namespaces.hasEverHad(namespace, "sandboxes")) {
      throw failure(ErrorKind.NotFound, "no sandbox buckets");
    }
  }

  #store(namespace: string, sandbox: Sandbox): void {
    this.#put.run(namespace, sandbox.sandboxId, toBinary(SandboxSchema, sandbox));
    this.#records.graph.put(
      resourceOf(namespace, sandbox.sandboxId),
      readReferenceFacts(ResourceKind.Sandbox, sandbox.labels),
    );
  }
}

function resourceOf(namespace: string, id: string): Resource {
  return { namespace, kind: ResourceKind.Sandbox, key: id };
}
