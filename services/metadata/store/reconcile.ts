import type { BlobStore } from "./blobs.ts";
import type { IngestStore } from "./ingests.ts";
import type { ReleaseStore } from "./releases.ts";

/** How many names are compared at a time; then other calls come in between. */
const namesPerSliceMax = 1_000;

/** What is on disk. */
export interface BlobFiles {
  readonly digests: readonly string[];
  readonly backendRefs: readonly string[];
}

/** What does not fit together. */
export interface BlobDifferences {
  /** Files without a record that nobody is about to remove. */
  readonly orphanDigests: readonly string[];
  readonly orphanBackendRefs: readonly string[];
  /** Records without a file. */
  readonly lostDigests: readonly string[];
}

/** Compares the files of the content process with the records. Changes nothing. */
export async function compareBlobs(
  files: BlobFiles,
  stores: { readonly blobs: BlobStore; readonly ingests: IngestStore; readonly releases: ReleaseStore },
): Promise<BlobDifferences> {
  const { blobs, ingests, releases } = stores;
  const isOrphan = (digest: string): boolean =>
    blobs.findSizeAnywhere(digest) === undefined && !ingests.pins(digest) && !releases.isCondemned(digest);
  const isOrphanRef = (backendRef: string): boolean =>
    !ingests.knows(backendRef) && !releases.isIngestReleased(backendRef);
  return {
    orphanDigests: await filterInSlices(files.digests, isOrphan),
    orphanBackendRefs: await filterInSlices(files.backendRefs, isOrphanRef),
    lostDigests: await listLost(new Set(files.digests), blobs),
  };
}

async function filterInSlices(names: readonly string[], passes: (name: string) => boolean): Promise<string[]> {
  const passed: string[] = [];
  for (let start = 0; start < names.length; start += namesPerSliceMax) {
    passed.push(...names.slice(start, start + namesPerSliceMax).filter(passes));
    await otherCalls();
  }
  return passed;
}

async function listLost(onDisk: ReadonlySet<string>, blobs: BlobStore): Promise<string[]> {
  const lost: string[] = [];
  for (let last: string | undefined = ""; last !== undefined; ) {
    const digests: string[] = blobs.listDigests(last, namesPerSliceMax);
    lost.push(...digests.filter((digest) => !onDisk.has(digest)));
    last = digests.at(-1);
    await otherCalls();
  }
  return lost;
}

function otherCalls(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
