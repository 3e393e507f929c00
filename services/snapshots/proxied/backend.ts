import type { Labels } from "#containerd/labels.ts";
import type { Mount } from "#linux/mount.ts";
import type { SnapshotKind, SnapshotUsage } from "../drivers/driver.ts";

/** A snapshot as the snapshotter of somebody else tells of it. */
export interface BackendSnapshot {
  readonly name: string;
  readonly parent: string;
  readonly kind: SnapshotKind | undefined;
  readonly labels: Labels;
}

/** What is asked for. */
export interface BackendOrder {
  readonly kind: "active" | "view";
  readonly key: string;
  readonly parent: string;
  readonly labels: Labels;
}

/**
 * The snapshotter of somebody else. It knows nothing of namespaces: one space of names is for all. All of it throws {@link FlotillaError},
 * what the snapshotter says or, within the bound of a call, that it says nothing.
 *
 * @source containerd v2.3.4 core/snapshots/snapshotter.go `Snapshotter`, core/snapshots/proxy/proxy.go
 */
export interface SnapshotBackend {
  /** Makes an active snapshot or a view. `already_exists`: it has what the label `containerd.io/snapshot.ref` names, or the key. */
  prepare(namespace: string, order: BackendOrder, signal?: AbortSignal): Promise<readonly Mount[]>;
  mounts(namespace: string, key: string, signal?: AbortSignal): Promise<readonly Mount[]>;
  commit(
    namespace: string,
    commit: { readonly name: string; readonly key: string; readonly parent: string; readonly labels: Labels },
  ): Promise<void>;
  usage(namespace: string, key: string, signal?: AbortSignal): Promise<SnapshotUsage>;
  stat(namespace: string, key: string): Promise<BackendSnapshot>;
  /** The committed snapshot on a parent that carries a reference, undefined when there is none. */
  findTarget(namespace: string, target: string, parent: string): Promise<BackendSnapshot | undefined>;
  /** Tells of labels that have changed. */
  update(namespace: string, key: string, labels: Labels, paths: readonly string[]): Promise<void>;
  remove(namespace: string, key: string): Promise<void>;
  /** Frees what removed snapshots take; does nothing where the snapshotter does not know that. */
  cleanup(namespace: string): Promise<void>;
  /** Whether it has been silent for long, though it was asked. */
  readonly isStuck: boolean;
}
