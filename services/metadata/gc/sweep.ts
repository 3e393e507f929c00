import type { GraphNode } from "../domain/reference-graph.ts";
import { type Resource, ResourceKind, splitSnapshotResourceKey } from "../domain/resource.ts";
import type { BlobStore } from "../store/blobs.ts";
import type { ImageStore } from "../store/images.ts";
import type { IngestStore } from "../store/ingests.ts";
import type { LeaseStore } from "../store/leases.ts";
import type { MountStore } from "../store/mounts.ts";
import type { Records } from "../store/records.ts";
import type { SnapshotStore } from "../store/snapshots.ts";
import type { WriteBarrier } from "./barrier.ts";
import type { Unreferenced } from "./mark.ts";
import type { Pause } from "./slices.ts";

/** Most records that one commit removes, unless more refer to each other in a circle. */
export const removalsPerCommitMax = 250;

/** What a sweep came to. */
export interface SweepOutcome {
  readonly removed: number;
  /** Records that marking did not reach and that stay until the next collection. */
  readonly kept: number;
}

/** The stores of what can be collected. */
export interface CollectedStores {
  readonly blobs: BlobStore;
  readonly images: ImageStore;
  readonly ingests: IngestStore;
  readonly leases: LeaseStore;
  readonly mounts: MountStore;
  readonly snapshots: SnapshotStore;
}

/**
 * Removes records that nothing holds alive, in small transactions, and releases their files.
 *
 * Each transaction first works off what was written meanwhile. Since what refers goes before what it refers to, whoever finds
 * a record between two transactions finds all that it refers to as well.
 */
export async function sweep(
  { graph, groups }: Unreferenced,
  parts: { readonly records: Records; readonly stores: CollectedStores; readonly barrier: WriteBarrier },
  pause: Pause,
): Promise<SweepOutcome> {
  const { records, stores, barrier } = parts;
  let removed = 0;
  let kept = 0;
  for (const batch of batches(groups)) {
    const removable = await records.maintain(() => {
      barrier.spread(graph);
      const unkept = batch.filter((node) => !barrier.keeps(node)).map((node) => graph.resource(node));
      const existing = unkept.filter((resource) => records.graph.has(resource));
      for (const resource of existing) {
        removeRecord(resource, stores);
      }
      return { kept: batch.length - unkept.length, removed: existing.length };
    });
    removed += removable.removed;
    kept += removable.kept;
    await pause();
  }
  return { removed, kept };
}

function* batches(groups: readonly (readonly GraphNode[])[]): Generator<GraphNode[]> {
  let batch: GraphNode[] = [];
  for (const group of groups) {
    if (batch.length > 0 && batch.length + group.length > removalsPerCommitMax) {
      yield batch;
      batch = [];
    }
    batch.push(...group);
  }
  if (batch.length > 0) {
    yield batch;
  }
}

function removeRecord({ namespace, kind, key }: Resource, stores: CollectedStores): void {
  switch (kind) {
    case ResourceKind.Content:
      return stores.blobs.collect(namespace, key);
    case ResourceKind.Image:
      return stores.images.collect(namespace, key);
    case ResourceKind.Ingest:
      return stores.ingests.collect(namespace, key);
    case ResourceKind.Lease:
      return stores.leases.collect(namespace, key);
    case ResourceKind.Mount:
      return stores.mounts.collect(namespace, key);
    case ResourceKind.Snapshot:
      return stores.snapshots.collect({ namespace, ...splitSnapshotResourceKey(key) });
    case ResourceKind.Container:
    case ResourceKind.Sandbox:
      throw new RangeError(`resources of kind ${kind} are never collected`);
  }
}
