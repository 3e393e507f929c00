import { ErrorKind, failure, isFailure, wrapFailure } from "#base/errors.ts";
import { nsPerMs } from "#base/times.ts";
import { type Labels, validateLabels } from "#containerd/labels.ts";
import type { Statement } from "#sqlite/open.ts";
import { Relation } from "../domain/reference-labels.ts";
import { type Resource, ResourceKind } from "../domain/resource.ts";
import type { BlobSize, BlobStore } from "./blobs.ts";
import type { LeaseStore } from "./leases.ts";
import type { NamespaceContents, NamespaceStore } from "./namespaces.ts";
import type { Records } from "./records.ts";
import type { ReleaseStore } from "./releases.ts";
import type { SequenceStore } from "./sequences.ts";

/** Who gets to use a blob without sending its bytes. @source containerd v2.3.4 plugins/metadata/plugin.go `BoltConfig` */
export type SharingPolicy = "shared" | "isolated";

/** How long an ingest is kept that no lease holds. @source containerd v2.3.4 core/metadata/content.go `Writer` */
const ingestLifetimeMs = 24 * 60 * 60 * 1000;

/** An ingest that is under way. */
export interface Ingest {
  readonly ref: string;
  readonly backendRef: string;
  /** Digest of the blob that stands for its bytes, or "". */
  readonly expected: string;
}

export interface IngestRequest {
  readonly namespace: string;
  /** The lease of the call, or "". */
  readonly lease: string;
  readonly ref: string;
  /** Digest that the client expects, or "". */
  readonly expected: string;
  /** Size in bytes that the client expects, or 0. */
  readonly total: bigint;
}

export interface OpenedIngest {
  readonly backendRef: string;
  /** Size in bytes of the blob that makes bytes needless, if there is one. */
  readonly sharedSize: bigint | undefined;
}

export interface BlobRequest extends BlobSize {
  readonly namespace: string;
  readonly lease: string;
  readonly ref: string;
  readonly labels: Labels;
}

/**
 * Blobs on their way into a namespace.
 *
 * @source containerd v2.3.4 core/metadata/content.go
 */
export class IngestStore implements NamespaceContents {
  readonly #records: Records;
  readonly #namespaces: NamespaceStore;
  readonly #leases: LeaseStore;
  readonly #releases: ReleaseStore;
  readonly #blobs: BlobStore;
  readonly #sequences: SequenceStore;
  readonly #policy: SharingPolicy;
  readonly #find: Statement<[string, string], Ingest & { readonly expiresMs: number | null }>;
  readonly #list: Statement<[string], Ingest>;
  readonly #findPinnedSize: Statement<[string], bigint>;
  readonly #put: Statement<[string, string, string, string, bigint | null, number | null]>;
  readonly #remove: Statement<[string, string]>;
  readonly #hasBackendRef: Statement<[string], number>;

  constructor(
    records: Records,
    stores: {
      readonly namespaces: NamespaceStore;
      readonly leases: LeaseStore;
      readonly releases: ReleaseStore;
      readonly blobs: BlobStore;
      readonly sequences: SequenceStore;
    },
    policy: SharingPolicy,
  ) {
    const { database } = records;
    this.#records = records;
    this.#namespaces = stores.namespaces;
    this.#leases = stores.leases;
    this.#releases = stores.releases;
    this.#blobs = stores.blobs;
    this.#sequences = stores.sequences;
    this.#policy = policy;
    this.#find = database.prepare(
      `SELECT ref, backend_ref AS backendRef, expected, expires_ms AS expiresMs FROM ingests
       WHERE namespace = ? AND ref = ?`,
    );
    this.#findPinnedSize = database
      .prepare<[string], bigint>("SELECT expected_size FROM ingests WHERE expected = ? AND expected != '' LIMIT 1")
      .pluck()
      .safeIntegers();
    this.#list = database.prepare(
      "SELECT ref, backend_ref AS backendRef, expected FROM ingests WHERE namespace = ? ORDER BY ref",
    );
    this.#put = database.prepare(
      `INSERT INTO ingests (namespace, ref, backend_ref, expected, expected_size, expires_ms) VALUES (?, ?, ?, ?, ?, ?)
       ON CONFLICT (namespace, ref) DO UPDATE SET
         expected = excluded.expected, expected_size = excluded.expected_size, expires_ms = excluded.expires_ms`,
    );
    this.#remove = database.prepare("DELETE FROM ingests WHERE namespace = ? AND ref = ?");
    this.#hasBackendRef = database.prepare<[string], number>("SELECT 1 FROM ingests WHERE backend_ref = ?").pluck();
  }

  /**
   * Reserves a ref or takes up its reservation.
   *
   * @throws {@link FlotillaError} `already_exists` when the namespace has the expected blob; the lease holds it then.
   */
  async open(request: IngestRequest): Promise<OpenedIngest> {
    const { namespace, ref, expected } = request;
    if (ref === "") {
      throw failure(ErrorKind.InvalidArgument, "ref must not be empty");
    }
    const opened = await this.#records.write(() => {
      if (expected !== "" && this.#blobs.findSize(namespace, expected) !== undefined) {
        try {
          this.#blobs.hold(request.lease, namespace, expected);
        } catch (error) {
          throw wrapFailure(error, "unable to lease content");
        }
        return undefined;
      }
      return this.#reserve(request);
    });
    if (opened === undefined) {
      throw failure(ErrorKind.AlreadyExists, `content ${expected}`);
    }
    return opened;
  }

  /**
   * Turns an ingest into a blob.
   *
   * A refusal leaves the file without a record, and so condemned.
   *
   * @throws {@link FlotillaError} `already_exists` when the namespace has the blob; the ingest is ended and the lease holds the
   *   blob all the same.
   */
  async commit(request: BlobRequest): Promise<void> {
    const { namespace, ref, digest } = request;
    let added: boolean;
    try {
      added = await this.#records.write(() => {
        validateLabels(request.labels, "info.Labels");
        const isNew = this.#blobs.add(namespace, request, request.labels);
        this.#end(namespace, ref, request.lease);
        this.#blobs.hold(request.lease, namespace, digest);
        return isNew;
      });
    } catch (error) {
      if (isFailure(error)) {
        await this.#records.maintain(() => this.#releases.condemnUnlessNamed(digest, request.size));
      }
      throw error;
    }
    if (!added) {
      throw failure(ErrorKind.AlreadyExists, `content ${digest}`);
    }
  }

  /** Ends an ingest without a blob. @returns Its name on disk. */
  abort(namespace: string, ref: string, lease: string): Promise<string> {
    return this.#records.write(() => {
      const ingest = this.#end(namespace, ref, lease);
      if (ingest === undefined) {
        throw failure(ErrorKind.NotFound, `reference ${ref}`);
      }
      return ingest.backendRef;
    });
  }

  /** The ingests of a namespace by ref; those named, or all when none is. */
  list(namespace: string, refs: readonly string[]): Ingest[] {
    if (refs.length === 0) {
      return this.#list.all(namespace);
    }
    return refs.flatMap((ref) => this.#find.get(namespace, ref) ?? []);
  }

  /** Removes the record of an ingest, inside a change, and releases its files. */
  collect(namespace: string, ref: string): void {
    const ingest = this.#end(namespace, ref, "");
    if (ingest !== undefined) {
      this.#releases.releaseIngest(ingest.backendRef);
    }
  }

  removeNamespace(namespace: string): void {
    for (const { ref } of this.#list.all(namespace)) {
      this.collect(namespace, ref);
    }
  }

  /** Tells whether an ingest on disk is known. */
  knows(backendRef: string): boolean {
    return this.#hasBackendRef.get(backendRef) !== undefined;
  }

  #reserve({ namespace, lease, ref, expected, total }: IngestRequest): OpenedIngest {
    const sharedSize = this.#findShared(expected, total);
    this.#namespaces.ensure(namespace);
    const resource = resourceOf(namespace, ref);
    this.#leases.hold(lease, resource);
    const before = this.#find.get(namespace, ref);
    const backendRef = before?.backendRef ?? `${namespace}/${this.#sequences.next("ingests")}/${ref}`;
    const expiresMs = lease === "" ? this.#nowMs() + ingestLifetimeMs : (before?.expiresMs ?? null);
    const pinned = sharedSize === undefined ? "" : expected;
    const sizeBefore = this.#findPinnedSize.get(before?.expected ?? "");
    this.#put.run(namespace, ref, backendRef, pinned, sharedSize ?? null, expiresMs);
    this.#releases.pardon(pinned);
    this.#unpin(before, sizeBefore);
    this.#records.graph.put(resource, {
      root: expiresMs !== null,
      flat: false,
      expiresMs: expiresMs ?? undefined,
      usedMs: [],
      references: pinned === "" ? [] : [{ relation: Relation.Structural, kind: ResourceKind.Content, key: pinned }],
    });
    return { backendRef, sharedSize };
  }

  /** The size of a blob on disk that may stand for the bytes of an ingest. */
  #findShared(expected: string, total: bigint): bigint | undefined {
    if (expected === "") {
      return undefined;
    }
    const size =
      this.#policy === "shared"
        ? (this.#blobs.findSizeAnywhere(expected) ??
          this.#findPinnedSize.get(expected) ??
          this.#releases.findCondemned(expected))
        : this.#findInShareable(expected);
    return size !== undefined && (total === 0n || total === size) ? size : undefined;
  }

  #findInShareable(digest: string): bigint | undefined {
    for (const namespace of this.#namespaces.listShareable()) {
      const size = this.#blobs.findSize(namespace, digest);
      if (size !== undefined) {
        return size;
      }
    }
    return undefined;
  }

  #end(namespace: string, ref: string, lease: string): Ingest | undefined {
    const ingest = this.#find.get(namespace, ref);
    const size = this.#findPinnedSize.get(ingest?.expected ?? "");
    const resource = resourceOf(namespace, ref);
    this.#remove.run(namespace, ref);
    this.#leases.release(lease, resource);
    this.#records.graph.remove(resource);
    this.#unpin(ingest, size);
    return ingest;
  }

  /** Condemns the blob that stood for an ingest, unless something else names it. */
  #unpin(ingest: Ingest | undefined, size: bigint | undefined): void {
    if (ingest !== undefined && size !== undefined) {
      this.#releases.condemnUnlessNamed(ingest.expected, size);
    }
  }

  #nowMs(): number {
    return Number(this.#records.clock() / nsPerMs);
  }
}

function resourceOf(namespace: string, ref: string): Resource {
  return { namespace, kind: ResourceKind.Ingest, key: ref };
}
