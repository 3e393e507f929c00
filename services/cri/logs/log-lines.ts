/** The streams that a log tells apart. */
export type LogStream = "stdout" | "stderr";

/** Longest line of a log that is configured to have lines of any length: what is kept in memory must end somewhere. */
const lineBytesMax = 1024 * 1024;

const newline = 0x0a;
const carriageReturn = 0x0d;
const noBytes: Uint8Array = new Uint8Array();

/**
 * Turns the output of a process into entries of a log as the kubelet reads it: `TIME STREAM TAG LINE`, where the tag is `F` for a line and
 * `P` for a piece of one that goes on, or that never ended.
 *
 * A line that is longer than allowed becomes pieces of just that length. The end of a line is `\n` or `\r\n`. Lines that come in one piece of
 * output have the same time.
 *
 * @source containerd v2.3.4 internal/cri/io/logger.go `redirectLogs`, `readLine`
 */
export class LogLines {
  readonly #stream: LogStream;
  readonly #lineBytesMax: number;
  /** What came of a line that has not ended; no longer than a line may be and one `\r`, which may be half of an end. */
  #pending: Uint8Array = noBytes;

  /** @param bytesMax - Longest line in bytes; 0 or less for no limit of the configuration. */
  constructor(stream: LogStream, bytesMax: number) {
    this.#stream = stream;
    this.#lineBytesMax = bytesMax > 0 ? Math.min(bytesMax, lineBytesMax) : lineBytesMax;
  }

  /**
   * Takes output in.
   *
   * @param time - When it came, as it stands in the log.
   * @returns What is to be written, in order; the pieces are views of what was given.
   */
  take(bytes: Uint8Array, time: string): Uint8Array[] {
    const entries: Uint8Array[] = [];
    let start = 0;
    for (let end = bytes.indexOf(newline); end !== -1; end = bytes.indexOf(newline, start)) {
      this.#add(entries, bytes.subarray(start, end), time);
      this.#finish(entries, time);
      start = end + 1;
    }
    this.#add(entries, bytes.subarray(start), time);
    return entries;
  }

  /** What is left when no more output comes: a line without an end counts as a piece. */
  end(time: string): Uint8Array[] {
    const entries: Uint8Array[] = [];
    while (this.#pending.length > this.#lineBytesMax) {
      this.#cut(entries, time);
    }
    if (this.#pending.length > 0) {
      this.#put(entries, "P", this.#pending, time);
      this.#pending = noBytes;
    }
    return entries;
  }

  #add(entries: Uint8Array[], piece: Uint8Array, time: string): void {
    if (piece.length > 0) {
      this.#pending = this.#pending.length === 0 ? piece : Buffer.concat([this.#pending, piece]);
    }
    while (this.#pending.length - (this.#pending.at(-1) === carriageReturn ? 1 : 0) > this.#lineBytesMax) {
      this.#cut(entries, time);
    }
  }

  #cut(entries: Uint8Array[], time: string): void {
    this.#put(entries, "P", this.#pending.subarray(0, this.#lineBytesMax), time);
    this.#pending = this.#pending.subarray(this.#lineBytesMax);
  }

  #finish(entries: Uint8Array[], time: string): void {
    const line = this.#pending.at(-1) === carriageReturn ? this.#pending.subarray(0, -1) : this.#pending;
    this.#put(entries, "F", line, time);
    this.#pending = noBytes;
  }

  #put(entries: Uint8Array[], tag: "P" | "F", line: Uint8Array, time: string): void {
    entries.push(Buffer.from(`${time} ${this.#stream} ${tag} `, "latin1"), line, endOfEntry);
  }
}

const endOfEntry: Uint8Array = Uint8Array.of(newline);
