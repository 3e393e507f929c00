import { type DescMessage, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import type { Labels } from "#containerd/labels.ts";
import type { Statement } from "#sqlite/open.ts";
import { type Reference, readReferenceFacts } from "../domain/reference-labels.ts";
import type { Resource, ResourceKind } from "../domain/resource.ts";
import { ListCache } from "./list-cache.ts";
import type { NamespaceContents } from "./namespaces.ts";
import type { Records } from "./records.ts";

/** What sets one kind of records apart from the others. */
export interface RecordKind<S extends DescMessage> {
  /** A table of the schema with the columns `namespace`, the name and `message`. */
  readonly table: "containers" | "images" | "leases" | "sandboxes";
  /** The column of the name, which is unique in a namespace. */
  readonly nameColumn: "id" | "name";
  readonly schema: S;
  readonly resource: ResourceKind;
}

/**
 * Records of one kind, by namespace and name: the message that clients get, kept encoded, together with what the collector has to know
 * of it and with whole lists that are ready to be sent. Methods that change something run inside a change.
 */
export class RecordTable<S extends DescMessage> implements NamespaceContents {
  readonly #records: Records;
  readonly #kind: RecordKind<S>;
  readonly #lists = new ListCache();
  readonly #find: Statement<[string, string], Uint8Array>;
  readonly #list: Statement<[string], Uint8Array>;
  readonly #put: Statement<[string, string, Uint8Array]>;
  readonly #remove: Statement<[string, string]>;
  readonly #removeAll: Statement<[string]>;

  constructor(records: Records, kind: RecordKind<S>) {
    const { database } = records;
    const { table, nameColumn } = kind;
    this.#records = records;
    this.#kind = kind;
    this.#find = database
      .prepare<[string, string], Uint8Array>(`SELECT message FROM ${table} WHERE namespace = ? AND ${nameColumn} = ?`)
      .pluck();
    this.#list = database
      .prepare<[string], Uint8Array>(`SELECT message FROM ${table} WHERE namespace = ? ORDER BY ${nameColumn}`)
      .pluck();
    this.#put = database.prepare(
      `INSERT INTO ${table} (namespace, ${nameColumn}, message) VALUES (?, ?, ?)
       ON CONFLICT (namespace, ${nameColumn}) DO UPDATE SET message = excluded.message`,
    );
    this.#remove = database.prepare(`DELETE FROM ${table} WHERE namespace = ? AND ${nameColumn} = ?`);
    this.#removeAll = database.prepare(`DELETE FROM ${table} WHERE namespace = ?`);
  }

  has(namespace: string, name: string): boolean {
    return this.#find.get(namespace, name) !== undefined;
  }

  /**
   * The encoded record of a name.
   *
   * @param missing - Makes the error for a name that has none.
   */
  get(namespace: string, name: string, missing: () => Error): Uint8Array {
    const message = this.#find.get(namespace, name);
    if (message === undefined) {
      throw missing();
    }
    return message;
  }

  /** The record of a name, which the caller may change. @param missing - As for {@link get}. */
  read(namespace: string, name: string, missing: () => Error): MessageShape<S> {
    return fromBinary(this.#kind.schema, this.get(namespace, name, missing));
  }

  /** The encoded records of a namespace by name. */
  list(namespace: string): Uint8Array[] {
    return this.#list.all(namespace);
  }

  /** The same as one message with the records in field 1. */
  encodedList(namespace: string): Uint8Array {
    return this.#lists.get(namespace, () => this.list(namespace));
  }

  /**
   * Makes or replaces the record of a name.
   *
   * @param structural - What it refers to by itself, besides what its labels say.
   * @returns The encoded record.
   */
  put(
    namespace: string,
    name: string,
    message: MessageShape<S> & { readonly labels: Labels },
    structural: readonly Omit<Reference, "relation">[] = [],
  ): Uint8Array {
    const encoded = toBinary(this.#kind.schema, message);
    this.#lists.drop(namespace);
    this.#put.run(namespace, name, encoded);
    const facts = readReferenceFacts(this.#kind.resource, message.labels, structural);
    this.#records.graph.put(this.resource(namespace, name), facts);
    return encoded;
  }

  /** @returns false when there is no such record. */
  remove(namespace: string, name: string): boolean {
    this.#lists.drop(namespace);
    this.#records.graph.remove(this.resource(namespace, name));
    return this.#remove.run(namespace, name).changes > 0;
  }

  removeNamespace(namespace: string): void {
    this.#lists.drop(namespace);
    this.#removeAll.run(namespace);
  }

  /** What the collector and leases know a record by. */
  resource(namespace: string, name: string): Resource {
    return { namespace, kind: this.#kind.resource, key: name };
  }
}
