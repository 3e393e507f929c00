import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { ErrorKind, failure } from "#base/errors.ts";
import { timestampOf } from "#base/times.ts";
import { type Labels, withoutEmptyLabels } from "#containerd/labels.ts";
import { ContentCreateSchema, ContentDeleteSchema } from "#gen/containerd/events/content_pb.ts";
import { type Info, InfoSchema } from "#gen/containerd/services/content/v1/content_pb.ts";
import type { Statement } from "#sqlite/open.ts";
import { updateLabels } from "../domain/labelled.ts";
import { readReferenceFacts } from "../domain/reference-labels.ts";
import { type Resource, ResourceKind } from "../domain/resource.ts";
import type { LeaseStore } from "./leases.ts";
import type { NamedRecord } from "./named-record.ts";
import type { NamespaceStore } from "./namespaces.ts";
import type { Records } from "./records.ts";
import type { ReleaseStore } from "./releases.ts";

/** A blob as the content process needs it. */
export interface BlobSize {
  readonly digest: string;
  readonly size: bigint;
}

/**
 * The blobs of namespaces. Several namespaces may have a blob whose file is there once.
 *
 * @source containerd v2.3.4 core/metadata/content.go
 */
export class BlobStore {
  readonly #records: Records;
  readonly #namespaces: NamespaceStore;
  readonly #leases: LeaseStore;
  readonly #releases: ReleaseStore;
  readonly #find: Statement<[string, string], Uint8Array>;
  readonly #findSize: Statement<[string, string], bigint>;
  readonly #findSizeAnywhere: Statement<[string], bigint>;
  readonly #page: Statement<[string, string, number], NamedRecord>;
  readonly #put: Statement<[string, string, bigint, Uint8Array]>;
  readonly #remove: Statement<[string, string], bigint>;
  readonly #digests: Statement<[string, number], string>;

  readonly #noteRemoval: () => void;

  /** @param onRemoved - Called after a commit that removed records of blobs, before anybody is told of it. */
  constructor(
    records: Records,
    stores: {
      readonly namespaces: NamespaceStore;
      readonly leases: LeaseStore;
      readonly releases: ReleaseStore;
    },
    onRemoved: () => void = () => undefined,
  ) {
    const { database } = records;
    this.#records = records;
    this.#namespaces = stores.namespaces;
    this.#leases = stores.leases;
    this.#releases = stores.releases;
    this.#noteRemoval = records.afterNoted(onRemoved);
    this.#find = database
      .prepare<[string, string], Uint8Array>("SELECT message FROM blobs WHERE namespace = ? AND digest = ?")
      .pluck();
    this.#findSize = database
      .prepare<[string, string], bigint>("SELECT size FROM blobs WHERE namespace = ? AND digest = ?")
      .pluck()
      .safeIntegers();
    this.#findSizeAnywhere = database
      .prepare<[string], bigint>("SELECT size FROM blobs WHERE digest = ? LIMIT 1")
      .pluck()
      .safeIntegers();
    this.#page = database.prepare(
      "SELECT digest AS name, message FROM blobs WHERE namespace = ? AND digest > ? ORDER BY digest LIMIT ?",
    );
    this.#put = database.prepare(
      `INSERT INTO blobs (namespace, digest, size, message) VALUES (?, ?, ?, ?)
       ON CONFLICT (namespace, digest) DO UPDATE SET message = excluded.message`,
    );
    this.#remove = database
      .prepare<[string, string], bigint>("DELETE FROM blobs WHERE namespace = ? AND digest = ? RETURNING size")
      .pluck()
      .safeIntegers();
    this.#digests = database
      .prepare<[string, number], string>("SELECT DISTINCT digest FROM blobs WHERE digest > ? ORDER BY digest LIMIT ?")
      .pluck();
  }

  /** The encoded record of a blob. */
  get(namespace: string, digest: string): Uint8Array {
    const message = this.#find.get(namespace, digest);
    if (message === undefined) {
      throw failure(ErrorKind.NotFound, `content digest ${digest}`);
    }
    return message;
  }

  /** The encoded records of a namespace by digest, after one, at most so many. */
  page(namespace: string, afterDigest: string, countMax: number): NamedRecord[] {
    return this.#page.all(namespace, afterDigest, countMax);
  }

  /** The size in bytes of a blob of a namespace, or undefined. */
  findSize(namespace: string, digest: string): bigint | undefined {
    return this.#findSize.get(namespace, digest);
  }

  /** The size in bytes of a blob that any namespace has, or undefined. */
  findSizeAnywhere(digest: string): bigint | undefined {
    return this.#findSizeAnywhere.get(digest);
  }

  /** Those of the digests that the namespace has, in the order asked. */
  resolve(namespace: string, digests: readonly string[]): BlobSize[] {
    return digests.flatMap((digest) => {
      const size = this.findSize(namespace, digest);
      return size === undefined ? [] : [{ digest, size }];
    });
  }

  /** The digests that any namespace has, after one, at most so many. */
  listDigests(afterDigest: string, countMax: number): string[] {
    return this.#digests.all(afterDigest, countMax);
  }

  /** @param paths - Of the update mask; none replaces all labels. */
  update(namespace: string, digest: string, labels: Labels, paths: readonly string[]): Promise<Info> {
    return this.#records.write(() => {
      const info = fromBinary(InfoSchema, this.get(namespace, digest));
      updateLabels(info, labels, paths, { kind: "content info", name: digest });
      info.updatedAt = timestampOf(this.#records.clock());
      this.#store(namespace, info);
      return info;
    });
  }

  /** Takes a blob from a namespace. Its file goes later, if no other namespace has it. */
  remove(namespace: string, digest: string, lease: string): Promise<void> {
    return this.#records.write((change) => {
      this.get(namespace, digest);
      this.collect(namespace, digest);
      this.#leases.release(lease, resourceOf(namespace, digest));
      this.#records.outbox.add(namespace, "/content/delete", ContentDeleteSchema, { digest });
      change.noteDeletion();
    });
  }

  /** Removes the record of a blob, inside a change, and condemns its file if that was the last record. */
  collect(namespace: string, digest: string): void {
    const size = this.#remove.get(namespace, digest);
    this.#noteRemoval();
    this.#records.graph.remove(resourceOf(namespace, digest));
    if (size !== undefined) {
      this.#releases.condemnUnlessNamed(digest, size);
    }
  }

  /**
   * Adds a blob to a namespace, inside a change, and tells so.
   *
   * @returns false when the namespace has it already.
   */
  add(namespace: string, { digest, size }: BlobSize, labels: Labels): boolean {
    if (this.findSize(namespace, digest) !== undefined) {
      return false;
    }
    this.#namespaces.ensure(namespace);
    this.#releases.pardon(digest);
    const now = timestampOf(this.#records.clock());
    this.#store(namespace, create(InfoSchema, { digest, size, createdAt: now, updatedAt: now, labels: { ...labels } }));
    this.#records.outbox.add(namespace, "/content/create", ContentCreateSchema, { digest, size });
    return true;
  }

  /** Has the lease of a call hold a blob, inside a change. */
  hold(lease: string, namespace: string, digest: string): void {
    this.#leases.hold(lease, resourceOf(namespace, digest));
  }

  #store(namespace: string, info: Info): void {
    info.labels = withoutEmptyLabels(info.labels);
    this.#put.run(namespace, info.digest, info.size, toBinary(InfoSchema, info));
    this.#records.graph.put(resourceOf(namespace, info.digest), readReferenceFacts(ResourceKind.Content, info.labels));
  }
}

function resourceOf(namespace: string, digest: string): Resource {
  return { namespace, kind: ResourceKind.Content, key: digest };
}
