import { ErrorKind, failure } from "#base/errors.ts";
import { BlobIndex } from "#gen/flotilla/index/v1/index_pb.ts";
import { bindService, type Handlers, type ServiceBinding } from "#wire/handler.ts";

type Hook = (method: keyof Handlers<typeof BlobIndex>) => Promise<void> | void;

interface Ingest {
  readonly backendRef: string;
  readonly expected: string;
}

/**
 * Records of blobs and ingests in memory, by the rules of the metadata process, to test the content process alone.
 * Namespaces share blobs. Nothing is leased or collected but by the test itself.
 */
export class MemoryBlobIndex {
  /** Sizes by namespace and digest. */
  readonly blobs = new Map<string, Map<string, bigint>>();
  /** By namespace and ref. */
  readonly ingests = new Map<string, Map<string, Ingest>>();
  /** Calls so far, by method. */
  readonly calls = new Map<string, number>();
  /** Awaited before a method does anything; throws to make it fail. */
  before: Hook = () => undefined;
  /** Awaited after a method has done what it does; throws to have its answer lost. */
  after: Hook = () => undefined;
  #sequence = 0;

  /** Sizes of all blobs that some namespace has, by digest. */
  known(): Map<string, bigint> {
    return new Map([...this.blobs.values()].flatMap((blobs) => [...blobs]));
  }

  /** Makes a record of a blob, as if it had been committed. */
  addBlob(namespace: string, digest: string, size: bigint): void {
    this.#blobsOf(namespace).set(digest, size);
  }

  /** Makes a record of an ingest, as if it had been opened. */
  addIngest(namespace: string, ref: string, backendRef: string): void {
    this.#ingestsOf(namespace).set(ref, { backendRef, expected: "" });
  }

  binding(): ServiceBinding {
    const handlers: Handlers<typeof BlobIndex> = {
      openIngest: async ({ namespace, ref, expected, total }) => {
        await this.#enter("openIngest");
        if (this.#blobsOf(namespace).has(expected)) {
          throw failure(ErrorKind.AlreadyExists, `content ${expected}`);
        }
        const size = this.known().get(expected);
        const shared = size !== undefined && (total === 0n || total === size) ? { size } : undefined;
        const ingests = this.#ingestsOf(namespace);
        const { backendRef } = ingests.get(ref) ?? { backendRef: `${namespace}/${(this.#sequence += 1)}/${ref}` };
        ingests.set(ref, { backendRef, expected: shared === undefined ? "" : expected });
        await this.after("openIngest");
        return shared === undefined ? { backendRef } : { backendRef, shared };
      },
      recordBlob: async ({ namespace, ref, digest, size }) => {
        await this.#enter("recordBlob");
        this.#ingestsOf(namespace).delete(ref);
        const blobs = this.#blobsOf(namespace);
        if (blobs.has(digest)) {
          throw failure(ErrorKind.AlreadyExists, `content ${digest}`);
        }
        blobs.set(digest, size);
        await this.after("recordBlob");
        return {};
      },
      resolveBlobs: async ({ namespace, digests }) => {
        await this.#enter("resolveBlobs");
        const blobs = this.#blobsOf(namespace);
        return { blobs: digests.flatMap((digest) => toBlob(digest, blobs.get(digest))) };
      },
      listIngests: async ({ namespace, refs }) => {
        await this.#enter("listIngests");
        const ingests = [...this.#ingestsOf(namespace)].map(([ref, ingest]) => ({ ref, ...ingest }));
        return { ingests: ingests.filter(({ ref }) => refs.length === 0 || refs.includes(ref)) };
      },
      removeIngest: async ({ namespace, ref }) => {
        await this.#enter("removeIngest");
        const found = this.#ingestsOf(namespace).get(ref);
        if (found === undefined) {
          throw failure(ErrorKind.NotFound, `reference ${ref}`);
        }
        this.#ingestsOf(namespace).delete(ref);
        return { backendRef: found.backendRef };
      },
      confirmCondemned: async ({ digests }) => {
        await this.#enter("confirmCondemned");
        const known = this.known();
        return { digests: digests.filter((digest) => !known.has(digest)) };
      },
      reconcileBlobs: async ({ digests, backendRefs }) => {
        await this.#enter("reconcileBlobs");
        const known = this.known();
        const refs = new Set([...this.ingests.values()].flatMap((ingests) => [...ingests.values()].map(refOf)));
        const found = new Set(digests);
        return {
          orphanDigests: digests.filter((digest) => !known.has(digest)),
          orphanBackendRefs: backendRefs.filter((ref) => !refs.has(ref)),
          lostDigests: [...known.keys()].filter((digest) => !found.has(digest)),
        };
      },
    };
    return bindService(BlobIndex, handlers);
  }

  async #enter(method: keyof Handlers<typeof BlobIndex>): Promise<void> {
    this.calls.set(method, (this.calls.get(method) ?? 0) + 1);
    await this.before(method);
  }

  #blobsOf(namespace: string): Map<string, bigint> {
    return this.blobs.get(namespace) ?? setNew(this.blobs, namespace);
  }

  #ingestsOf(namespace: string): Map<string, Ingest> {
    return this.ingests.get(namespace) ?? setNew(this.ingests, namespace);
  }
}

function refOf({ backendRef }: Ingest): string {
  return backendRef;
}

function toBlob(digest: string, size: bigint | undefined): { digest: string; size: bigint }[] {
  return size === undefined ? [] : [{ digest, size }];
}

function setNew<V>(maps: Map<string, Map<string, V>>, key: string): Map<string, V> {
  const made = new Map<string, V>();
  maps.set(key, made);
  return made;
}
