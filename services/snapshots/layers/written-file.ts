import { closeFile, seekTo, setSize, succeed, writeFully } from "#linux/file.ts";

/** A new regular file whose content comes in parts. The descriptor is its own. */
export class WrittenFile {
  readonly descriptor: number;
  readonly #shown: () => string;
  #sizeBytes = 0;
  #endsInHole = false;

  /** @param shown - Its path, for messages. */
  constructor(descriptor: number, shown: () => string) {
    this.descriptor = descriptor;
    this.#shown = shown;
  }

  /** @throws {@link SystemError}, as all of this does. */
  write(data: Buffer): void {
    succeed(writeFully(this.descriptor, data), () => `write ${this.#shown()}`);
    this.#sizeBytes += data.length;
    this.#endsInHole = false;
  }

  /** Leaves a hole. */
  skip(sizeBytes: number): void {
    this.#sizeBytes += sizeBytes;
    this.#endsInHole = true;
    succeed(seekTo(this.descriptor, this.#sizeBytes), () => `seek ${this.#shown()}`);
  }

  /** Gives it the size that it has come to, if a hole is at its end. */
  finish(): void {
    if (this.#endsInHole) {
      succeed(setSize(this.descriptor, this.#sizeBytes), () => `truncate ${this.#shown()}`);
    }
  }

  /** Closes it, and says if that fails. */
  close(): void {
    succeed(closeFile(this.descriptor), () => `close ${this.#shown()}`);
  }

  /** Closes it after a failure. */
  abandon(): void {
    closeFile(this.descriptor);
  }
}
