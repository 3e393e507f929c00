import { setTimeout as delay } from "node:timers/promises";
import { ErrorKind, errorMessage, FlotillaError, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import type { Programs } from "../programs.ts";

/** @source dm-thin: everything is counted in sectors */
const sectorBytes = 512;
/** The pool has 24 bits for the number of a volume. @source Documentation/admin-guide/device-mapper/thin-provisioning.rst */
const volumesMax = 2n ** 24n;

/** How often and how long to wait for a volume that is busy. @source containerd v2.3.4 plugins/snapshots/devmapper/pool_device.go `retry` */
const busyTries = 100;
const busyWaitMs = 100;

/**
 * The volumes of one thin pool, by dmsetup. The number of a volume is the id of its snapshot, so that nothing else has to be kept about it.
 *
 * Making and deleting may be repeated after a crash at any line.
 *
 * @source containerd v2.3.4 plugins/snapshots/devmapper/dmsetup/dmsetup.go, pool_device.go
 */
export class ThinPool {
  readonly #name: string;
  readonly #programs: Programs;
  readonly #sizeBytes: number;

  constructor(name: string, options: { readonly programs: Programs; readonly sizeBytes: number }) {
    this.#name = name;
    this.#programs = options.programs;
    this.#sizeBytes = options.sizeBytes;
  }

  /** Makes sure that there is the pool. @throws {@link FlotillaError} */
  async require(): Promise<void> {
    await this.#programs("dmsetup", "version");
    const path = `/dev/mapper/${this.#name}`;
    try {
      await this.#programs("dmsetup", "info", path);
    } catch (error) {
      throw wrapFailure(error, `failed to query pool ${quote(path)}`);
    }
  }

  /** The block device of a volume that is active. */
  pathOf(id: bigint): string {
    return `/dev/mapper/${this.#nameOf(id)}`;
  }

  /** Makes an empty volume and activates it. */
  async createVolume(id: bigint): Promise<void> {
    await this.#message(`create_thin ${numberOf(id)}`, `failed to create new thin device ${quote(this.#nameOf(id))}`);
    await this.activate(id);
  }

  /** Makes a volume that has what another one has, and activates it. The other one is flushed and still meanwhile if it is active. */
  async createSnapshot(id: bigint, originId: bigint): Promise<void> {
    const isActive = await this.#isActive(originId);
    const what = `failed to create snapshot ${quote(this.#nameOf(id))} from ${quote(this.#nameOf(originId))}`;
    if (isActive) {
      await this.#programs("dmsetup", "suspend", this.#nameOf(originId));
    }
    try {
      await this.#message(`create_snap ${numberOf(id)} ${numberOf(originId)}`, what);
    } finally {
      if (isActive) {
        await this.#programs("dmsetup", "resume", this.#nameOf(originId));
      }
    }
    await this.activate(id);
  }

  /** Makes the block device of a volume, unless it is there. */
  async activate(id: bigint): Promise<void> {
    if (await this.#isActive(id)) {
      return;
    }
    const sectors = Math.floor(this.#sizeBytes / sectorBytes);
    const table = `0 ${sectors} thin /dev/mapper/${this.#name} ${numberOf(id)}`;
    try {
      await this.#programs("dmsetup", "create", this.#nameOf(id), "--table", table);
    } catch (error) {
      throw wrapFailure(error, `failed to activate new thin device ${quote(this.#nameOf(id))}`);
    }
  }

  /** Has everything written that is on its way to a volume. */
  async flush(id: bigint): Promise<void> {
    if (await this.#isActive(id)) {
      await this.#programs("dmsetup", "suspend", this.#nameOf(id));
      await this.#programs("dmsetup", "resume", this.#nameOf(id));
    }
  }

  /** Takes the block device of a volume away, now or when its last user is gone. */
  async deactivate(id: bigint): Promise<void> {
    if (await this.#isActive(id)) {
      await this.#programs("dmsetup", "remove", "--deferred", this.pathOf(id));
    }
  }

  /**
   * Deletes a volume. One that is not there is no error.
   *
   * @param discards - Gives its blocks back to what lies below the pool first.
   * @throws {@link FlotillaError} when it is in use for 10 s.
   */
  async delete(id: bigint, { discards }: { readonly discards: boolean }): Promise<void> {
    if (await this.#isActive(id)) {
      if (discards) {
        await this.#programs("blkdiscard", this.pathOf(id));
      }
      await this.#retryWhileBusy(() => this.#programs("dmsetup", "remove", this.pathOf(id)));
    }
    try {
      await this.#message(`delete ${numberOf(id)}`, `failed to delete device ${quote(this.#nameOf(id))}`);
    } catch (error) {
      if (!/no data available/i.test(errorMessage(error))) {
        throw error;
      }
    }
  }

  /** The bytes that are written in a volume, whoever of its relatives has written them. It must be active. */
  async mappedBytes(id: bigint): Promise<bigint> {
    const status = await this.#programs("dmsetup", "status", this.#nameOf(id));
    const sectors = /^\d+ \d+ thin (\d+)/.exec(status)?.[1];
    if (sectors === undefined) {
      throw new FlotillaError(ErrorKind.Unknown, `failed to parse output: ${quote(status)}`);
    }
    return BigInt(sectors) * BigInt(sectorBytes);
  }

  async #isActive(id: bigint): Promise<boolean> {
    return await this.#programs("dmsetup", "info", this.#nameOf(id)).then(
      () => true,
      () => false,
    );
  }

  async #message(text: string, context: string): Promise<void> {
    try {
      await this.#programs("dmsetup", "message", this.#name, "0", text);
    } catch (error) {
      throw wrapFailure(error, context);
    }
  }

  async #retryWhileBusy(act: () => Promise<unknown>): Promise<void> {
    for (let tries = 1; ; tries += 1) {
      try {
        await act();
        return;
      } catch (error) {
        if (!/device or resource busy/i.test(errorMessage(error)) || tries === busyTries) {
          throw error;
        }
      }
      await delay(busyWaitMs);
    }
  }

  /** The pool's name is a part of it, so that two pools do not collide. */
  #nameOf(id: bigint): string {
    return `${this.#name}-snap-${id}`;
  }
}

function numberOf(id: bigint): string {
  if (id >= volumesMax) {
    throw new FlotillaError(ErrorKind.ResourceExhausted, `a thin pool has no volume ${id}`);
  }
  return String(id);
}
