import { Chunk } from "./chunk.ts";

/** Enough for the answers of many calls. */
const smallBytes = 16 * 1024;
/** As much as the kernel keeps for a socket, unless it is told otherwise. @source socket(7) `wmem_default` */
const largeBytes = 256 * 1024;
/** After so many reads in a row that a small buffer would have done for, there is a small one again. */
const smallReadsMax = 64;
/** Large buffers that are kept for whoever needs one next, since new ones cost a page fault for every 4 KiB: twice the window of a
 * connection, since few reads fill one. */
const sparesMax = 32;
/** How long they are kept when nobody gives any back. */
const spareMsMax = 1_000;

const spares: Buffer[] = [];
let dropTimer: NodeJS.Timeout | undefined;

/**
 * The memory that a socket is read into, again and again: small while little comes, large while much does. Where somebody
 * still holds what was read last, the next read gets other memory.
 */
export class ReadBuffer {
  #buffer: Buffer = Buffer.allocUnsafeSlow(smallBytes);
  #isHeld = false;
  /** Reads in a row that did not fill a small buffer. */
  #smallReads = 0;
  #wantedBytes = smallBytes;

  /** Memory for the next read. It is that of the read before, if nobody holds that. */
  next(): Buffer {
    if (this.#isHeld) {
      this.#buffer = this.#find();
      this.#isHeld = false;
    } else if (this.#buffer.length !== this.#wantedBytes) {
      keepSpare(this.#buffer);
      this.#buffer = this.#find();
    }
    return this.#buffer;
  }

  /** What was read into the memory that was given last. The reader releases it. */
  take(sizeBytes: number): Chunk {
    if (sizeBytes >= smallBytes) {
      this.#smallReads = 0;
      this.#wantedBytes = largeBytes;
    } else if (++this.#smallReads > smallReadsMax) {
      this.#wantedBytes = smallBytes;
    }
    const buffer = this.#buffer;
    this.#isHeld = true;
    return new Chunk(buffer.subarray(0, sizeBytes), true, () => {
      if (this.#buffer === buffer) {
        this.#isHeld = false;
      } else {
        keepSpare(buffer);
      }
    });
  }

  #find(): Buffer {
    const spare = this.#wantedBytes === largeBytes ? spares.pop() : undefined;
    return spare ?? Buffer.allocUnsafeSlow(this.#wantedBytes);
  }
}

function keepSpare(buffer: Buffer): void {
  if (buffer.length === largeBytes && spares.length < sparesMax) {
    spares.push(buffer);
    dropTimer ??= setTimeout(dropSpares, spareMsMax).unref();
    dropTimer.refresh();
  }
}

function dropSpares(): void {
  spares.length = 0;
  dropTimer = undefined;
}
