import { open, readdir } from "node:fs/promises";
import { systemErrorCode } from "#base/errors.ts";

/**
 * Flushes the files in which a nats-server on this machine keeps a stream.
 *
 * nats-server acknowledges a message once it has written it, which is enough to survive its own death, and flushes its files to disk
 * every minute or so, which is not enough to survive a power cut. Any process may flush a file, whoever has written it.
 *
 * @source nats-server v2.9.10 server/filestore.go `blkScan`, `defaultSyncInterval`, `writeMsgRecord`: files are numbered, only the
 *   newest grows
 */
export class StreamFiles {
  readonly #directory: string;
  /** Number of the newest file that has been flushed. */
  #newest = 0;

  /** @param directory - The `msgs` directory of the stream. */
  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Resolves when everything that the server had acknowledged is on disk. */
  async flush(): Promise<void> {
    const numbers = (await readdir(this.#directory)).flatMap((name) => {
      const match = /^(\d+)\.blk$/.exec(name);
      return match === null ? [] : [Number(match[1])];
    });
    const newest = Math.max(0, ...numbers);
    const oldestGrown = Math.min(this.#newest, newest);
    await Promise.all(
      numbers.filter((number) => number >= oldestGrown).map((number) => this.#flushFile(`${number}.blk`)),
    );
    if (newest !== this.#newest) {
      await this.#flushFile(".");
      this.#newest = newest;
    }
  }

  async #flushFile(name: string): Promise<void> {
    try {
      await using file = await open(`${this.#directory}/${name}`, "r");
      await file.datasync();
    } catch (error) {
      // The server removes files that have left the bounds of the stream.
      if (systemErrorCode(error) !== "ENOENT") {
        throw error;
      }
    }
  }
}
