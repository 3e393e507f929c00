import { closeSync, writeSync } from "node:fs";
import { checked, nativeFunction } from "./libc.ts";

/** The two ends of a pipe, as descriptors. */
export interface Pipe {
  readonly reader: number;
  readonly writer: number;
}

/** @source asm-generic/fcntl.h `O_CLOEXEC`, linux/memfd.h `MFD_CLOEXEC` */
const closeOnExec = 0o200_0000;
const memoryFileCloseOnExec = 1;

const pipeCall = nativeFunction("int pipe2(void *descriptors, int flags)");
const memoryFileCall = nativeFunction("int memfd_create(const char *name, unsigned int flags)");

/** Opens a pipe that programs get no end of unless it is handed to them. @source pipe(2) */
export function openPipe(): Pipe {
  const ends = Buffer.alloc(8);
  checked(pipeCall(ends, closeOnExec), () => "pipe");
  return { reader: ends.readInt32LE(0), writer: ends.readInt32LE(4) };
}

/** Opens a file that lies in memory alone, from whose beginning a program reads the bytes. @source memfd_create(2) */
export function openMemoryFile(bytes: Uint8Array): number {
  const descriptor = checked(memoryFileCall("input", memoryFileCloseOnExec), () => "memfd_create");
  try {
    for (let written = 0; written < bytes.length; ) {
      // At a position, so that the offset which the program shares stays at the beginning.
      written += writeSync(descriptor, bytes, written, bytes.length - written, written);
    }
    return descriptor;
  } catch (error) {
    closeSync(descriptor);
    throw error;
  }
}
