import { setTimeout as delay } from "node:timers/promises";
import { fromBinary } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { nsPerSecond, wallClock } from "#base/times.ts";
import type { Logger } from "#fleet/log.ts";
import { MetricsSchema as OldMetricsSchema } from "#gen/io/containerd/cgroups/v1/metrics_pb.ts";
import { MetricsSchema } from "#gen/io/containerd/cgroups/v2/metrics_pb.ts";
import { ContainerEventType } from "#gen/runtime/v1/api_pb.ts";
import { type CriPeers, criCall } from "../peers.ts";
import type { Container, ContainerStatusRecord } from "../store/container.ts";
import type { ContainerEventSink } from "./container-event-sink.ts";
import type { ContainerObservers } from "./container-observers.ts";

/** The wait before a task is asked for again, in milliseconds. */
const retryMs = 500;
/** How long all that is left of a container's output may take, in milliseconds, once it has ended. */
const drainMsMax = 10_000;
/** Exit code of what was killed. @source containerd v2.3.4 cmd/containerd-shim-runc-v2/manager/manager_linux.go `Stop` */
const killedCode = 137;
/** Exit code where nobody knows it. @source containerd v2.3.4 internal/cri/server/helpers.go `unknownExitCode` */
const unknownExitCode = 255;
/** @source containerd v2.3.4 internal/cri/server/events.go `oomExitReason` */
const outOfMemoryReason = "OOMKilled";

/** How a container ended. */
interface Exit {
  readonly code: number;
  readonly atNs: bigint;
}

/**
 * Waits for the ends of containers, each until it has come: a peer that is away is asked again. What a container's end means is recorded before it is told of.
 *
 * @source containerd v2.3.4 internal/cri/server/events.go `startContainerExitMonitor`, `handleContainerExit`
 */
export class Exits {
  readonly #peers: CriPeers;
  readonly #events: ContainerEventSink;
  readonly #observers: Pick<ContainerObservers, "stopped">;
  readonly #log: Logger;
  readonly #stopping: AbortSignal;
  readonly #watched = new Map<string, Promise<void>>();

  constructor({
    peers,
    events,
    observers,
    log,
    stopping,
  }: {
    readonly peers: CriPeers;
    readonly events: ContainerEventSink;
    readonly observers: Pick<ContainerObservers, "stopped">;
    readonly log: Logger;
    readonly stopping: AbortSignal;
  }) {
    this.#peers = peers;
    this.#events = events;
    this.#observers = observers;
    this.#log = log;
    this.#stopping = stopping;
  }

  /** Sees a container to its end. Never rejects; harmless for one that is watched already. */
  watch(container: Container): Promise<void> {
    const watched = this.#watched.get(container.id);
    if (watched !== undefined) {
      return watched;
    }
    const watching = this.#see(container).finally(() => this.#watched.delete(container.id));
    this.#watched.set(container.id, watching);
    return watching;
  }

  /** Records that somebody could not find out how a container ended. */
  endUnknown(container: Container): Promise<void> {
    return this.#settle(container, { code: unknownExitCode, atNs: wallClock() });
  }

  async #see(container: Container): Promise<void> {
    let exit: Exit | undefined;
    while (!this.#stopping.aborted && !container.ended.aborted) {
      try {
        exit ??= await this.#wait(container.id);
        await this.#settle(container, exit);
        return;
      } catch (error) {
        if (!this.#stopping.aborted) {
          this.#log.debug({ container: container.id, err: error }, "the end of a container is asked for again");
        }
        await delay(retryMs, undefined, { signal: this.#stopping, ref: false }).catch(() => undefined);
      }
    }
  }

  async #wait(id: string): Promise<Exit> {
    try {
      const { exitStatus, exitedAt } = await this.#peers.tasks.wait(
        { containerId: id },
        criCall({ signal: this.#stopping, timeoutMs: Number.POSITIVE_INFINITY }),
      );
      const atNs = (exitedAt?.seconds ?? 0n) * nsPerSecond + BigInt(exitedAt?.nanos ?? 0);
      return { code: exitStatus, atNs: atNs > 0n ? atNs : wallClock() };
    } catch (error) {
      if (isFailure(error, ErrorKind.NotFound)) {
        // Its shim is gone, and whoever cleared up after that killed what was left.
        return { code: killedCode, atNs: wallClock() };
      }
      throw error;
    }
  }

  async #settle(container: Container, exit: Exit): Promise<void> {
    const hadTooLittle =
      exit.code === killedCode && container.status.reason === "" && (await this.#ranOutOfMemory(container.id));
    const ended = (status: ContainerStatusRecord): ContainerStatusRecord => ({
      ...status,
      unknown: false,
      reason: hadTooLittle ? outOfMemoryReason : status.unknown && status.reason === "" ? "Unknown" : status.reason,
      ...(status.finishedAtNs === 0n ? { pid: 0, finishedAtNs: exit.atNs, exitCode: exit.code } : {}),
    });
    // Once the task is deleted nobody else knows how it ended.
    await container.foretell(ended);
    // The pipes live as long as the task: whoever comes after a crash reads what is left in them.
    await this.#drainOutput(container);
    await this.#deleteTask(container.id);
    await container.io?.close();
    container.io = undefined;
    await container.update(ended);
    container.end();
    this.#events.publish(container.id, container.metadata.podId, ContainerEventType.CONTAINER_STOPPED_EVENT);
    await this.#observers.stopped(container);
  }

  /** Notes that the kernel killed something of a container for want of memory. */
  async noteOutOfMemory(container: Container): Promise<void> {
    if (container.status.reason !== outOfMemoryReason) {
      await container.update((status) => ({ ...status, reason: outOfMemoryReason }));
    }
  }

  /** Asked before the task is deleted, and its cgroup with it. */
  async #ranOutOfMemory(id: string): Promise<boolean> {
    try {
      const { metrics } = await this.#peers.tasks.metrics({ filters: [`id==${id}`] }, criCall());
      const data = metrics.find((metric) => metric.id === id)?.data;
      return data !== undefined && killedForMemory(data) > 0n;
    } catch (error) {
      this.#log.debug({ container: id, err: error }, "whether a container ran out of memory is not known");
      return false;
    }
  }

  async #deleteTask(id: string): Promise<void> {
    try {
      await this.#peers.tasks.delete({ containerId: id }, criCall());
    } catch (error) {
      if (!isFailure(error, ErrorKind.NotFound)) {
        throw error;
      }
    }
  }

  async #drainOutput({ io }: Container): Promise<void> {
    const waiting = new AbortController();
    await Promise.race([
      io?.drained(),
      delay(drainMsMax, undefined, { ref: false, signal: waiting.signal }).catch(() => undefined),
    ]);
    waiting.abort();
  }
}

/** How many processes of a task the kernel has killed for want of memory. */
function killedForMemory({ typeUrl, value }: Any): bigint {
  if (typeUrl.endsWith(MetricsSchema.typeName)) {
    return fromBinary(MetricsSchema, value).memoryEvents?.oomKill ?? 0n;
  }
  return typeUrl.endsWith(OldMetricsSchema.typeName)
    ? (fromBinary(OldMetricsSchema, value).memoryOomControl?.oomKill ?? 0n)
    : 0n;
}
