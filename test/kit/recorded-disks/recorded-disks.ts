import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, statSync } from "node:fs";
import { truncate, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { mountAll } from "#linux/mount.ts";
import { unmountAll } from "#linux/unmount.ts";
import { lacksFileSystem } from "../file-systems.ts";
import { until } from "../processes.ts";
import { type DiskEvent, readDiskLog } from "./disk-log.ts";

const server = fileURLToPath(new URL("disk-server-main.ts", import.meta.url));
const startMsMax = 20_000;

/** Why disks cannot be recorded here, or false. */
export async function lacksRecordedDisks(): Promise<string | false> {
  return existsSync("/dev/fuse") ? await lacksFileSystem("ext4") : "the kernel has no /dev/fuse";
}

/**
 * Disks with an ext4 each, of which every write and every flush is recorded in one log, in the order in which they reach the disks.
 *
 * A disk is a loop device over a file of a FUSE file system, which a process of its own serves; so nothing of the block layer is
 * stood in for. The loop device has a write cache that only a flush empties, as disks have.
 */
export class RecordedDisks implements AsyncDisposable {
  /** The empty file systems, by disk. */
  readonly images: readonly string[];
  /** Where they are mounted while they are recorded, by disk. */
  readonly mounts: readonly string[];
  readonly #path: string;
  readonly #child: ChildProcess;

  private constructor(path: string, count: number, child: ChildProcess) {
    const numbers = Array.from({ length: count }, (_, disk) => disk);
    this.#path = path;
    this.#child = child;
    this.images = numbers.map((disk) => `${path}/empty-${disk}`);
    this.mounts = numbers.map((disk) => `${path}/mount-${disk}`);
  }

  /** @param path - An empty directory for all of it. */
  static async start(path: string, count: number, sizeBytes: number): Promise<RecordedDisks> {
    const served: string[] = [];
    for (let disk = 0; disk < count; disk += 1) {
      const image = `${path}/empty-${disk}`;
      await writeFile(image, "");
      await truncate(image, sizeBytes);
      // All tables are made now, so that the log has nothing but what is wanted.
      const lazy = "lazy_itable_init=0,lazy_journal_init=0";
      await execa("/usr/sbin/mkfs.ext4", ["-q", "-b", "4096", "-J", "size=4", "-E", lazy, image]);
      await execa("cp", ["--sparse=always", image, `${path}/served-${disk}`]);
      served.push(`${path}/served-${disk}`);
      mkdirSync(`${path}/mount-${disk}`);
    }
    mkdirSync(`${path}/fuse`);
    const child = spawn(process.execPath, [server, `${path}/fuse`, `${path}/log`, ...served], {
      stdio: ["ignore", "ignore", "inherit"],
    });
    const disks = new RecordedDisks(path, count, child);
    try {
      await until(
        () => existsSync(`${path}/log`) && statSync(`${path}/fuse`).ino === 1,
        () => "the recorded disks do not come up",
        startMsMax,
      );
      for (const [disk, mount] of disks.mounts.entries()) {
        await mountAll([{ type: "ext4", source: `${path}/fuse/${disk}`, options: ["loop"] }], mount);
      }
    } catch (error) {
      await disks[Symbol.asyncDispose]();
      throw error;
    }
    return disks;
  }

  /** How long the log is: what was answered until now is in it. */
  position(): number {
    return statSync(`${this.#path}/log`).size;
  }

  /** Ends the recording. @returns what was recorded. */
  async stop(): Promise<DiskEvent[]> {
    await this[Symbol.asyncDispose]();
    return readDiskLog(`${this.#path}/log`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const mount of this.mounts) {
      await unmountAll(mount);
    }
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const exited = once(this.#child, "exit");
      await unmountAll(`${this.#path}/fuse`, { detach: true });
      await exited;
    }
  }
}
