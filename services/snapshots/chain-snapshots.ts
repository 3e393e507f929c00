import type { SnapshotterFront } from "./domain/front.ts";
import type { ChainSnapshots } from "./layers/ports.ts";

/** The snapshots of a snapshotter as the unpacking of layers sees them, for one namespace and lease. */
export function openChainSnapshots(
  snapshotter: SnapshotterFront,
  { namespace, lease }: { readonly namespace: string; readonly lease: string },
): ChainSnapshots {
  const nameOf = (key: string): { namespace: string; snapshotter: string; key: string } => ({
    namespace,
    snapshotter: snapshotter.name,
    key,
  });
  return {
    snapshotter: snapshotter.name,
    canRebase: snapshotter.canRebase,
    exists: (name) => snapshotter.isCommitted(nameOf(name)),
    prepare: ({ key, parent, labels }) =>
      snapshotter.prepare({ ...nameOf(key), lease, parent, labels, kind: "active" }),
    settle: (key, measured) => snapshotter.settle(nameOf(key), measured),
    commit: ({ key, ...commit }) => snapshotter.commit({ ...nameOf(key), lease, ...commit }),
    remove: (key) => snapshotter.remove(nameOf(key)),
    view: (name) => snapshotter.viewCommitted(nameOf(name)),
  };
}
