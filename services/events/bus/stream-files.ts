import { closeSync, fdatasync, fstatSync, openSync, statSync } from "node:fs";
import { open, readdir } from "node:fs/promises";
import { promisify } from "node:util";
import { systemErrorCode } from "#base/errors.ts";

const datasync = promisify(fdatasync);

/** A file that grows, kept open: opening it again would cost more than the flush. */
interface OpenFile {
  readonly number: number;
  readonly descriptor: number;
  readonly inode: number;
}

/**
 * Flushes the files in which a nats-server on this machine keeps a stream.
 *
 * nats-server acknowledges a message once it has written it, which is enough to survive its own death, and flushes its files to disk
 * every minute or so, which is not enough to survive a power cut. Any process may flush a file, whoever has written it.
 *
 * As long as the newest file is there and has no successor, it is the only one that grows, and nothing else is looked at.
 *
 * @source nats-server v2.9.10 server/filestore.go `blkScan`, `defaultSyncInterval`, `writeMsgRecord`: files are numbered, only the
 *   newest grows
 */
export class StreamFiles implements Disposable {
  readonly #directory: string;
  /** The newest file, once it and its name have been flushed. */
  #newest: OpenFile | undefined;

  /** @param directory - The `msgs` directory of the stream. */
  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Resolves when everything that the server had acknowledged is on disk. One call at a time. */
  async flush(): Promise<void> {
    const newest = this.#newest;
    if (newest !== undefined && this.#isStillNewest(newest)) {
      await datasync(newest.descriptor);
    } else {
      await this.#flushAll(newest);
    }
  }

  [Symbol.dispose](): void {
    close(this.#newest);
    this.#newest = undefined;
  }

  /** Two calls that ask the kernel what it knows by heart, without another thread. */
  #isStillNewest({ number, inode }: OpenFile): boolean {
    const hasSuccessor = statSync(this.#pathOf(number + 1), { throwIfNoEntry: false }) !== undefined;
    return !hasSuccessor && statSync(this.#pathOf(number), { throwIfNoEntry: false })?.ino === inode;
  }

  /** @param known - What was the newest file: what is older than that no longer grew when it was flushed. */
  async #flushAll(known: OpenFile | undefined): Promise<void> {
    const numbers = (await readdir(this.#directory)).flatMap((name) => {
      const match = /^(\d+)\.blk$/.exec(name);
      return match === null ? [] : [Number(match[1])];
    });
    const newest = Math.max(0, ...numbers);
    const oldestGrown = Math.min(known?.number ?? 0, newest);
    // Opened before the flush, so that what is kept open is what was flushed.
    const opened = this.#tryOpen(newest);
    try {
      await Promise.all(
        numbers.filter((number) => number >= oldestGrown).map((number) => flushFile(this.#pathOf(number))),
      );
      await flushFile(this.#directory);
    } catch (error) {
      close(opened);
      throw error;
    }
    close(this.#newest);
    this.#newest = opened;
  }

  /** Undefined when there is none any more. */
  #tryOpen(number: number): OpenFile | undefined {
    try {
      const descriptor = openSync(this.#pathOf(number), "r");
      return { number, descriptor, inode: fstatSync(descriptor).ino };
    } catch (error) {
      if (systemErrorCode(error) === "ENOENT") {
        return undefined;
      }
      throw error;
    }
  }

  #pathOf(number: number): string {
    return `${this.#directory}/${number}.blk`;
  }
}

function close(file: OpenFile | undefined): void {
  if (file !== undefined) {
    closeSync(file.descriptor);
  }
}

async function flushFile(path: string): Promise<void> {
  try {
    await using file = await open(path, "r");
    await file.datasync();
  } catch (error) {
    // The server removes files that have left the bounds of the stream.
    if (systemErrorCode(error) !== "ENOENT") {
      throw error;
    }
  }
}
