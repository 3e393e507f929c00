import { setTimeout as delay } from "node:timers/promises";
import { ErrorKind, isFailure } from "#base/errors.ts";
import type { Logger } from "#fleet/log.ts";
import { type Info, Kind } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import { type CriPeers, criCall } from "../peers.ts";

/** What one snapshot takes. */
export interface SnapshotUsage {
  readonly kind: Kind;
  /** Nanoseconds since 1970 at which it was measured. */
  readonly timestampNs: bigint;
  readonly sizeBytes: bigint;
  readonly inodes: bigint;
}

export interface SnapshotUsagesOptions {
  readonly peers: CriPeers;
  /** Those that images and containers are in. */
  readonly snapshotters: () => readonly string[];
  /** Time between two measurements, in milliseconds. */
  readonly intervalMs: number;
  readonly log: Logger;
  readonly stopping: AbortSignal;
}

/**
 * What snapshots take, measured from time to time: measuring reads a whole file system, so whoever asks is told of the last time.
 *
 * @source containerd v2.3.4 internal/cri/server/images/snapshots.go `snapshotsSyncer`
 */
export class SnapshotUsages {
  readonly #options: SnapshotUsagesOptions;
  readonly #usages = new Map<string, Map<string, SnapshotUsage>>();

  constructor(options: SnapshotUsagesOptions) {
    this.#options = options;
  }

  /** Measures again and again until the process stops. Never rejects. */
  async run(): Promise<void> {
    const { intervalMs, stopping, log } = this.#options;
    while (!stopping.aborted) {
      for (const snapshotter of this.#options.snapshotters()) {
        await this.#measure(snapshotter).catch((error: unknown) => {
          if (!stopping.aborted) {
            log.debug({ snapshotter, err: error }, "snapshots are not measured");
          }
        });
      }
      await delay(intervalMs, undefined, { signal: stopping, ref: false }).catch(() => undefined);
    }
  }

  /** What a snapshot took last time; undefined for one that has not been measured. */
  find(snapshotter: string, key: string): SnapshotUsage | undefined {
    return this.#usages.get(snapshotter)?.get(key);
  }

  /** What all snapshots of each snapshotter took. */
  sums(): Map<string, Omit<SnapshotUsage, "kind">> {
    const sums = new Map<string, Omit<SnapshotUsage, "kind">>();
    for (const [snapshotter, usages] of this.#usages) {
      let sum: Omit<SnapshotUsage, "kind"> | undefined;
      for (const { timestampNs, sizeBytes, inodes } of usages.values()) {
        sum = {
          timestampNs: sum === undefined || timestampNs < sum.timestampNs ? timestampNs : sum.timestampNs,
          sizeBytes: (sum?.sizeBytes ?? 0n) + sizeBytes,
          inodes: (sum?.inodes ?? 0n) + inodes,
        };
      }
      if (sum !== undefined) {
        sums.set(snapshotter, sum);
      }
    }
    return sums;
  }

  async #measure(snapshotter: string): Promise<void> {
    const { peers, stopping } = this.#options;
    const infos: Info[] = [];
    for await (const { info } of peers.snapshotRecords.list({ snapshotter }, criCall({ signal: stopping }))) {
      infos.push(...info);
    }
    const before = this.#usages.get(snapshotter);
    const after = new Map<string, SnapshotUsage>();
    for (const { name, kind } of infos) {
      const known = before?.get(name);
      const usage =
        known !== undefined && known.kind === kind && kind !== Kind.ACTIVE
          ? { ...known, timestampNs: nowNs() }
          : await this.#usageOf(snapshotter, name, kind);
      if (usage !== undefined) {
        after.set(name, usage);
      }
    }
    this.#usages.set(snapshotter, after);
  }

  async #usageOf(snapshotter: string, key: string, kind: Kind): Promise<SnapshotUsage | undefined> {
    const { peers, stopping } = this.#options;
    try {
      const timestampNs = nowNs();
      const { size, inodes } = await peers.snapshots.usage({ snapshotter, key }, criCall({ signal: stopping }));
      return { kind, timestampNs, sizeBytes: size, inodes };
    } catch (error) {
      if (isFailure(error, ErrorKind.NotFound)) {
        return undefined;
      }
      throw error;
    }
  }
}

function nowNs(): bigint {
  return BigInt(Date.now()) * 1_000_000n;
}
