import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { ErrorKind, FlotillaError, failure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { validateIdentifier } from "#containerd/identifier.ts";
import { type Labels, sharedNamespaceLabel, validateLabels, withoutEmptyLabels } from "#containerd/labels.ts";
import {
  NamespaceCreateSchema,
  NamespaceDeleteSchema,
  NamespaceUpdateSchema,
} from "#gen/containerd/events/namespace_pb.ts";
import { NamespaceSchema } from "#gen/containerd/services/namespaces/v1/namespaces_pb.ts";
import type { Statement } from "#sqlite/open.ts";
import type { Records } from "./records.ts";

/** A kind of resources of which a namespace may have had some; of snapshots for each snapshotter. */
export type Collection = "containers" | "sandboxes" | `snapshots/${string}`;

/** A store of resources that go with their namespace. */
export interface NamespaceContents {
  /** Removes what the namespace holds, inside a change. */
  removeNamespace(namespace: string): void;
}

/** A name that no namespace can have, since containerd keeps the version of its schema under it. */
const impossibleName = "version";

/** The namespaces. One comes into being when something is written into it. */
export class NamespaceStore {
  readonly #records: Records;
  readonly #find: Statement<[string], Uint8Array>;
  readonly #list: Statement<[], Uint8Array>;
  readonly #put: Statement<[string, Uint8Array]>;
  readonly #ensure: Statement<[string, Uint8Array]>;
  readonly #remove: Statement<[string]>;
  readonly #addCollection: Statement<[string, string]>;
  readonly #hasCollection: Statement<[string, string], number>;
  readonly #removeCollections: Statement<[string]>;
  readonly #holdsAny: readonly (readonly [what: string, Statement<[string], number>])[];
  readonly #snapshotters: Statement<[string], string>;

  constructor(records: Records) {
    const { database } = records;
    this.#records = records;
    this.#find = database.prepare<[string], Uint8Array>("SELECT message FROM namespaces WHERE name = ?").pluck();
    this.#list = database.prepare<[], Uint8Array>("SELECT message FROM namespaces ORDER BY name").pluck();
    this.#put = database.prepare("INSERT OR REPLACE INTO namespaces (name, message) VALUES (?, ?)");
    this.#ensure = database.prepare("INSERT OR IGNORE INTO namespaces (name, message) VALUES (?, ?)");
    this.#remove = database.prepare("DELETE FROM namespaces WHERE name = ?");
    this.#addCollection = database.prepare("INSERT OR IGNORE INTO collections (namespace, name) VALUES (?, ?)");
    this.#hasCollection = database
      .prepare<[string, string], number>("SELECT 1 FROM collections WHERE namespace = ? AND name = ?")
      .pluck();
    this.#removeCollections = database.prepare("DELETE FROM collections WHERE namespace = ?");
    this.#holdsAny = (["images", "blobs", "containers"] as const).map((table) => [
      table,
      database.prepare<[string], number>(`SELECT 1 FROM ${table} WHERE namespace = ? LIMIT 1`).pluck(),
    ]);
    this.#snapshotters = database
      .prepare<[string], string>("SELECT DISTINCT snapshotter FROM snapshots WHERE namespace = ? ORDER BY snapshotter")
      .pluck();
  }

  /** The encoded records of all namespaces by name. */
  list(): Uint8Array[] {
    return this.#list.all();
  }

  /** The labels of a namespace; of one that does not exist, none. */
  labels(namespace: string): Record<string, string> {
    const message = this.#find.get(namespace);
    return message === undefined ? {} : fromBinary(NamespaceSchema, message).labels;
  }

  /** The namespaces whose blobs every other may use. */
  *listShareable(): Generator<string> {
    for (const message of this.#list.all()) {
      const { name, labels } = fromBinary(NamespaceSchema, message);
      if (labels[sharedNamespaceLabel] === "true") {
        yield name;
      }
    }
  }

  /**
   * Makes a namespace that does not exist yet, inside a change that writes into it.
   *
   * @param collection - What is written.
   */
  ensure(namespace: string, collection?: Collection): void {
    refuseImpossible(namespace);
    this.#ensure.run(namespace, encode(namespace, {}));
    if (collection !== undefined) {
      this.#addCollection.run(namespace, collection);
    }
  }

  /** Tells whether a namespace has ever had anything of a kind. */
  hasEverHad(namespace: string, collection: Collection): boolean {
    return this.#hasCollection.get(namespace, collection) !== undefined;
  }

  /** @source containerd v2.3.4 core/metadata/namespaces.go `Create` */
  create(namespace: string, labels: Labels): Promise<void> {
    return this.#records.write(() => {
      validateIdentifier(namespace);
      validateLabels(labels, "namespace.Labels");
      refuseImpossible(namespace);
      if (this.#find.get(namespace) !== undefined) {
        throw failure(ErrorKind.AlreadyExists, `namespace ${quote(namespace)}`);
      }
      this.#put.run(namespace, encode(namespace, withoutEmptyLabels(labels)));
      this.#records.outbox.add(namespace, "/namespaces/create", NamespaceCreateSchema, {
        name: namespace,
        labels: { ...labels },
      });
    });
  }

  /**
   * Changes labels of a namespace, and makes it if it does not exist.
   *
   * @param change - Given the labels, answers the new ones; those with an empty value are dropped.
   * @param requested - The labels as the request has them, which is what the event tells.
   */
  update(namespace: string, change: (labels: Record<string, string>) => Labels, requested: Labels): Promise<void> {
    return this.#records.write(() => {
      refuseImpossible(namespace);
      if (namespace === "") {
        throw new FlotillaError(ErrorKind.Unknown, "bucket name required");
      }
      this.#put.run(namespace, encode(namespace, withoutEmptyLabels(change(this.labels(namespace)))));
      this.#records.outbox.add(namespace, "/namespaces/update", NamespaceUpdateSchema, {
        name: namespace,
        labels: { ...requested },
      });
    });
  }

  /**
   * Removes a namespace that holds nothing but leases, sandboxes and ingests, which go with it.
   *
   * @param contents - The stores of what goes with it.
   * @source containerd v2.3.4 core/metadata/namespaces.go `Delete`, `listNs`
   */
  remove(namespace: string, contents: readonly NamespaceContents[]): Promise<void> {
    return this.#records.write((change) => {
      refuseImpossible(namespace);
      const held = this.#listHeld(namespace);
      if (held.length > 0) {
        throw failure(
          ErrorKind.FailedPrecondition,
          `namespace ${quote(namespace)} must be empty, but it still has ${held.join(", ")}`,
        );
      }
      for (const store of contents) {
        store.removeNamespace(namespace);
      }
      this.#removeCollections.run(namespace);
      this.#records.graph.removeNamespace(namespace);
      if (this.#remove.run(namespace).changes === 0) {
        throw failure(ErrorKind.NotFound, `namespace ${quote(namespace)}`);
      }
      this.#records.outbox.add(namespace, "/namespaces/delete", NamespaceDeleteSchema, { name: namespace });
      change.noteDeletion();
    });
  }

  #listHeld(namespace: string): string[] {
    return [
      ...this.#holdsAny.filter(([, statement]) => statement.get(namespace) !== undefined).map(([what]) => what),
      ...this.#snapshotters.all(namespace).map((name) => `snapshots on ${quote(name)} snapshotter`),
    ];
  }
}

function refuseImpossible(namespace: string): void {
  if (namespace === impossibleName) {
    throw new FlotillaError(ErrorKind.Unknown, "incompatible value");
  }
}

function encode(name: string, labels: Record<string, string>): Uint8Array {
  return toBinary(NamespaceSchema, create(NamespaceSchema, { name, labels }));
}
