import type { BlobStore } from "./blobs.ts";
import type { IngestStore } from "./ingests.ts";
import type { Records } from "./records.ts";
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
  /** Files without a record. They are condemned. */
  readonly orphanDigests: readonly string[];
  readonly orphanBackendRefs: readonly string[];
  /** Records without a file. */
  readonly lostDigests: readonly string[];
}

/**
 * Compares the files of the content process with the records, and condemns blobs that no record names.
 *
 * Nobody knows the size of those, which sets them apart: they are removed together with the next blobs whose records go. So a
 * content directory that is taken over with a fresh database is not emptied at once.
 */
export async function reconcileBlobs(
  files: BlobFiles,
  records: Records,
  stores: { readonly blobs: BlobStore; readonly ingests: IngestStore; readonly releases: ReleaseStore },
): Promise<BlobDifferences> {
  const { blobs, ingests, releases } = stores;
  const condemn = (digest: string): boolean => releases.condemnUnlessNamed(digest) || releases.isCondemned(digest);
  return {
    orphanDigests: await filterInSlices(files.digests, condemn, records),
    orphanBackendRefs: await filterInSlices(files.backendRefs, (backendRef) => !ingests.knows(backendRef), records),
    lostDigests: await listLost(new Set(files.digests), blobs),
  };
}

async function filterInSlices(
  names: readonly string[],
  passes: (name: string) => boolean,
  records: Records,
): Promise<string[]> {
  const passed: string[] = [];
  for (let start = 0; start < names.length; start += namesPerSliceMax) {
    const slice = names.slice(start, start + namesPerSliceMax);
    passed.push(...(await records.maintain(() => slice.filter(passes))));
  }
  return passed;
}

async function listLost(onDisk: ReadonlySet<string>, blobs: BlobStore): Promise<string[]> {
  const lost: string[] = [];
  for (let last: string | undefined = ""; last !== undefined; ) {
    const digests: string[] = blobs.listDigests(last, namesPerSliceMax);
    lost.push(...digests.filter((digest) => !onDisk.has(digest)));
    last = digests.at(-1);
    await new Promise<void>((resolve) => {
      setImmediate(resolve);
    });
  }
  return lost;
}
