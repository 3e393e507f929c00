import { create } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { ErrorKind, type FlotillaError, failure, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { timestampOf } from "#base/times.ts";
import { withoutEmptyLabels } from "#containerd/labels.ts";
import {
  ContainerCreateSchema,
  ContainerDeleteSchema,
  ContainerUpdateSchema,
} from "#gen/containerd/events/container_pb.ts";
import { type Container, ContainerSchema } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import { updateContainer, validateContainer } from "../domain/container.ts";
import { ResourceKind, snapshotResourceKey } from "../domain/resource.ts";
import type { NamespaceStore } from "./namespaces.ts";
import { RecordTable } from "./record-table.ts";
import type { Records } from "./records.ts";

/**
 * The containers of all namespaces. A container is a record alone; what runs belongs to the tasks process.
 *
 * @source containerd v2.3.4 core/metadata/containers.go, plugins/services/containers/local.go
 */
export class ContainerStore {
  readonly table: RecordTable<typeof ContainerSchema>;
  readonly #records: Records;
  readonly #namespaces: NamespaceStore;
  readonly #noteRemoval: () => void;

  /** @param onRemoved - Called after a commit that removed containers, before anybody is told of it. */
  constructor(records: Records, namespaces: NamespaceStore, onRemoved: () => void = () => undefined) {
    this.#records = records;
    this.#namespaces = namespaces;
    this.#noteRemoval = records.afterNoted(onRemoved);
    this.table = new RecordTable(records, {
      table: "containers",
      nameColumn: "id",
      schema: ContainerSchema,
      resource: ResourceKind.Container,
    });
  }

  /** The encoded record of a container. */
  get(namespace: string, id: string): Uint8Array {
    return this.table.get(namespace, id, () => notFound(`container ${quote(id)} in namespace ${quote(namespace)}`));
  }

  /** @returns The encoded record. */
  create(namespace: string, wanted: Container): Promise<Uint8Array> {
    return this.#records.write(() => {
      try {
        validateContainer(wanted);
      } catch (error) {
        throw wrapFailure(error, "create container failed validation");
      }
      if (this.table.has(namespace, wanted.id)) {
        throw failure(ErrorKind.AlreadyExists, `container ${quote(wanted.id)}`);
      }
      this.#namespaces.ensure(namespace, "containers");
      const now = timestampOf(this.#records.clock());
      const labels = withoutEmptyLabels(wanted.labels);
      const encoded = this.#store(namespace, { ...wanted, labels, createdAt: now, updatedAt: now });
      this.#records.outbox.add(namespace, "/containers/create", ContainerCreateSchema, {
        id: wanted.id,
        image: wanted.image,
        runtime: {
          name: wanted.runtime?.name ?? "",
          ...(wanted.runtime?.options === undefined ? {} : { options: wanted.runtime.options }),
        },
      });
      return encoded;
    });
  }

  /** @param paths - Of the update mask; none takes over all that may change. */
  update(namespace: string, wanted: Container, paths: readonly string[]): Promise<Container> {
    return this.#records.write(() => {
      this.#requireAny(namespace, `cannot update container ${quote(wanted.id)}`);
      const container = this.table.read(namespace, wanted.id, () => notFound(`container ${quote(wanted.id)}`));
      const extensionsBefore = container.extensions;
      updateContainer(container, wanted, paths, create(AnySchema));
      container.labels = withoutEmptyLabels(container.labels);
      container.updatedAt = timestampOf(this.#records.clock());
      // containerd answers with the extensions that were asked for, and yet never removes one.
      this.#store(namespace, { ...container, extensions: { ...extensionsBefore, ...container.extensions } });
      this.#records.outbox.add(namespace, "/containers/update", ContainerUpdateSchema, {
        id: container.id,
        image: container.image,
        labels: container.labels,
        snapshotKey: container.snapshotKey,
      });
      return container;
    });
  }

  remove(namespace: string, id: string): Promise<void> {
    return this.#records.write((change) => {
      this.#requireAny(namespace, `cannot delete container ${quote(id)}`);
      if (!this.table.remove(namespace, id)) {
        throw notFound(`container ${id}`);
      }
      this.#noteRemoval();
      this.#records.outbox.add(namespace, "/containers/delete", ContainerDeleteSchema, { id });
      change.noteDeletion();
    });
  }

  #requireAny(namespace: string, refusal: string): void {
    if (!this.#namespaces.hasEverHad(namespace, "containers")) {
      throw notFound(`${refusal} in namespace ${quote(namespace)}`);
    }
  }

  #store(namespace: string, container: Container): Uint8Array {
    const { snapshotter, snapshotKey } = container;
    const key = snapshotResourceKey(snapshotter, snapshotKey);
    return this.table.put(
      namespace,
      container.id,
      container,
      snapshotter === "" ? [] : [{ kind: ResourceKind.Snapshot, key }],
    );
  }
}

function notFound(what: string): FlotillaError {
  return failure(ErrorKind.NotFound, what);
}
