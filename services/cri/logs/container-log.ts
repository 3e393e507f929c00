import { closeSync, constants, fstatSync, openSync, readSync, writeSync } from "node:fs";
import { formatRfc3339, timestampOf, wallClock } from "#base/times.ts";
import { LogLines, type LogStream } from "./log-lines.ts";

const logMode = 0o640;
const lineEnd = Buffer.from("\n");

/** What a log counts, for those who watch. */
export interface LogCounts {
  entries: number;
  bytes: number;
}

/**
 * The log of a container, as the kubelet and `crictl logs` read it.
 *
 * Both streams write to one file, whole entries at a time. What comes in is in the file when `write` returns, so that next to nothing is lost
 * when this process is killed. It is not flushed: as with containerd, a power cut may take its last seconds. A write that fails loses its
 * entries and nothing else, since a container must not stand still for a full disk. A part of an entry, which a full disk or a death amid a write
 * leaves, stays a line of its own.
 */
export class ContainerLog {
  readonly #path: string;
  readonly #lines: Readonly<Record<LogStream, LogLines>>;
  readonly #onFailure: (error: unknown) => void;
  #file: number | undefined;
  /** Whether the last entry in the file has no end. */
  #isTorn: boolean;
  readonly counts: LogCounts = { entries: 0, bytes: 0 };

  /**
   * Opens a log, behind what stands in it.
   *
   * @param lineBytesMax - Longest line; 0 or less for no limit.
   * @param onFailure - Is told of writes that failed.
   * @throws When the file can't be opened; its directory must be there.
   * @source containerd v2.3.4 internal/cri/server/container_start.go `createContainerLoggers`
   */
  constructor(path: string, options: { readonly lineBytesMax: number; readonly onFailure: (error: unknown) => void }) {
    this.#path = path;
    this.#file = openLog(path);
    this.#isTorn = isTorn(this.#file);
    this.#lines = {
      stdout: new LogLines("stdout", options.lineBytesMax),
      stderr: new LogLines("stderr", options.lineBytesMax),
    };
    this.#onFailure = options.onFailure;
  }

  /** Adds output. */
  write(stream: LogStream, bytes: Uint8Array): void {
    this.#append(this.#lines[stream].take(bytes, now()));
  }

  /** Writes what is left of a stream that has ended. */
  endStream(stream: LogStream): void {
    this.#append(this.#lines[stream].end(now()));
  }

  /**
   * Goes on in a new file, after somebody moved the old one away. The old one stays in use when this fails.
   *
   * @throws When the file can't be opened.
   */
  reopen(): void {
    const file = openLog(this.#path);
    this.close();
    this.#file = file;
    this.#isTorn = isTorn(file);
  }

  /** Lets the file go. What is written after that is lost. */
  close(): void {
    const file = this.#file;
    this.#file = undefined;
    if (file !== undefined) {
      closeSync(file);
    }
  }

  #append(entries: readonly Uint8Array[]): void {
    if (this.#file === undefined || entries.length === 0) {
      return;
    }
    const text = Buffer.concat(this.#isTorn ? [lineEnd, ...entries] : entries);
    let offset = 0;
    try {
      while (offset < text.length) {
        offset += writeSync(this.#file, text, offset);
      }
      this.counts.entries += entries.length / 3;
      this.counts.bytes += text.length;
    } catch (error) {
      this.#onFailure(error);
    } finally {
      this.#isTorn = offset === 0 ? this.#isTorn : text[offset - 1] !== lineEnd[0];
    }
  }
}

function openLog(path: string): number {
  // A pipe that has this name for whatever reason is not waited for.
  const { O_APPEND, O_CREAT, O_NONBLOCK, O_RDWR } = constants;
  return openSync(path, O_APPEND | O_CREAT | O_NONBLOCK | O_RDWR, logMode);
}

function isTorn(file: number): boolean {
  const { size } = fstatSync(file);
  const last = Buffer.alloc(1);
  return size > 0 && readSync(file, last, 0, 1, size - 1) === 1 && !last.equals(lineEnd);
}

function now(): string {
  return formatRfc3339(timestampOf(wallClock()));
}
