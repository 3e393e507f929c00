import { readSync, writeSync } from "node:fs";
import { setSize, succeed } from "./file.ts";
import { Errno, nativeFunction, outcome } from "./libc.ts";

/** @source asm-generic/errno-base.h `ENXIO`: there is no more data */
const noData = 6;
/** @source lseek(2) */
const seekData = 3;
const seekHole = 4;
/** @source linux/fs.h `FICLONE` */
const cloneRequest = 0x4004_9409;
/** Bytes asked of the kernel at a time. */
const copyBytesMax = 1024 * 1024 * 1024;

/** Bytes that are in memory at a time where the kernel does not copy. */
const handBytesMax = 1024 * 1024;

const cloneCall = nativeFunction("int ioctl(int descriptor, unsigned long request, int source)");
const seekCall = nativeFunction("int64_t lseek(int descriptor, int64_t offset, int whence)");
const copyCall = nativeFunction(
  "long copy_file_range(int from, void *fromOffset, int to, void *toOffset, size_t size, unsigned int flags)",
);

/**
 * Copies the content of an open file into an open empty one, both regular. Blocks are shared where the file system can; holes stay
 * holes.
 *
 * @param sizeBytes - Of the source.
 * @param context - What is copied, for messages.
 * @throws {@link SystemError}
 */
export function copyContent(from: number, to: number, sizeBytes: number, context: () => string): void {
  if (outcome(cloneCall(to, cloneRequest, from)) === 0) {
    return;
  }
  for (let position = 0; position < sizeBytes; ) {
    const start = outcome(seekCall(from, position, seekData));
    if (start === -noData) {
      break;
    }
    succeed(start, context);
    const end = succeed(outcome(seekCall(from, start, seekHole)), context);
    succeed(outcome(seekCall(from, start, 0)), context);
    succeed(outcome(seekCall(to, start, 0)), context);
    for (let left = end - start; left > 0; ) {
      const result = outcome(copyCall(from, null, to, null, Math.min(left, copyBytesMax), 0));
      const copied = result === -Errno.CrossDevice ? copyByHand(from, to, left) : succeed(result, context);
      if (copied === 0) {
        break;
      }
      left -= copied;
    }
    position = end;
  }
  succeed(setSize(to, sizeBytes), context);
}

/** File systems of different types have no common way. @returns how much was copied, 0 at the end of the file. */
function copyByHand(from: number, to: number, sizeBytes: number): number {
  const memory = Buffer.allocUnsafe(Math.min(sizeBytes, handBytesMax));
  const read = readSync(from, memory);
  for (let written = 0; written < read; ) {
    written += writeSync(to, memory, written, read - written);
  }
  return read;
}
