import { readFileSync } from "node:fs";
import { nativeFunction } from "./libc.ts";

const mallocTrim = nativeFunction("int malloc_trim(size_t keep)");

/**
 * Gives memory that the process has freed back to the system. The C library keeps it otherwise, which after the end of a thread
 * may be many megabytes.
 *
 * Does nothing where the C library is not glibc.
 *
 * @source malloc_trim(3)
 */
export function releaseFreeMemory(): void {
  try {
    mallocTrim(0);
  } catch {
    // Other C libraries have no such function, and no such need.
  }
}

const madvise = nativeFunction("int madvise(uint64_t start, size_t length, int advice)");
/** @source asm-generic/mman-common.h `MADV_DONTNEED` */
const dontNeed = 4;
const mappingStart = /^([0-9a-f]+)-([0-9a-f]+) r-[x-]p [0-9a-f]+ [0-9a-f:]+ \d+ +\//;
const writtenPages = /^Anonymous: +(\d+) kB$/;

/**
 * Lets go of what this process has mapped of programs and libraries to read and to run: code that only the start has needed stays mapped
 * otherwise, a quarter of what an idle process takes, and the kernel is slow to take pages that are mapped as code. They stay in the
 * cache of files for as long as the machine has room; what is needed again is mapped when it is first touched.
 *
 * Mappings in which something was ever written, such as what the loader has relocated, are left alone.
 *
 * @source madvise(2) `MADV_DONTNEED`, proc_pid_smaps(5)
 */
export function unmapProgram(): void {
  let mapping: RegExpExecArray | null = null;
  for (const line of readFileSync("/proc/self/smaps", "latin1").split("\n")) {
    mapping = mappingStart.exec(line) ?? (line.startsWith("VmFlags:") ? null : mapping);
    if (mapping !== null && writtenPages.exec(line)?.[1] === "0") {
      const [start, end] = [BigInt(`0x${mapping[1]}`), BigInt(`0x${mapping[2]}`)];
      // What can't be let go of stays, which is no failure.
      madvise(start, Number(end - start), dontNeed);
    }
  }
}
