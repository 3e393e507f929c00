import { closeSync, openSync, writeSync } from "node:fs";
import { execa } from "execa";
import type { DiskEvent } from "./disk-log.ts";

/** What a disk keeps or loses at once. */
const sectorBytes = 4096;

/**
 * What recorded disks hold after a loss of power.
 *
 * A disk then has all that was written before its last flush, and any part of what came later. Call {@link CrashImages.write} with
 * events in order: the images are brought forward, never back.
 */
export class CrashImages {
  readonly #events: readonly DiskEvent[];
  /** Images with all that has been flushed. */
  readonly #settled: readonly string[];
  readonly #pending: DiskEvent[] = [];
  #next = 0;

  /** @param images - Of the disks at the beginning; they are written to. */
  constructor(events: readonly DiskEvent[], images: readonly string[]) {
    this.#events = events;
    this.#settled = images;
  }

  /**
   * Writes images as they are when the power goes after so many events.
   *
   * @param keeps - Asked for every sector that was written after the last flush of its disk, in order.
   * @param targets - Files for the images, which are replaced.
   */
  async write(eventCount: number, keeps: () => boolean, targets: readonly string[]): Promise<void> {
    for (; this.#next < eventCount; this.#next += 1) {
      const event = this.#events[this.#next];
      if (event?.write !== undefined) {
        this.#pending.push(event);
      } else if (event !== undefined) {
        this.#settle(event.disk);
      }
    }
    for (const [disk, target] of targets.entries()) {
      // A new file each time: a loop device of the one before may linger, with blocks in its cache.
      await execa("cp", ["--remove-destination", "--sparse=always", this.#settled[disk] ?? "", target]);
      const descriptor = openSync(target, "r+");
      try {
        for (const { write } of this.#pending.filter((event) => event.disk === disk)) {
          writeSectors(descriptor, write, keeps);
        }
      } finally {
        closeSync(descriptor);
      }
    }
  }

  #settle(disk: number): void {
    const descriptor = openSync(this.#settled[disk] ?? "", "r+");
    try {
      for (const { write } of this.#pending.filter((event) => event.disk === disk)) {
        writeSectors(descriptor, write, () => true);
      }
    } finally {
      closeSync(descriptor);
    }
    const rest = this.#pending.filter((event) => event.disk !== disk);
    this.#pending.splice(0, this.#pending.length, ...rest);
  }
}

function writeSectors(descriptor: number, write: DiskEvent["write"], keeps: () => boolean): void {
  const { offset = 0, data = Buffer.alloc(0) } = write ?? {};
  for (let at = 0; at < data.length; at += sectorBytes) {
    if (keeps()) {
      const sector = data.subarray(at, at + sectorBytes);
      writeSync(descriptor, sector, 0, sector.length, offset + at);
    }
  }
}
