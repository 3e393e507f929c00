import { closeSync, openSync, readSync } from "node:fs";

/**
 * Random bytes of the kernel, for the few that a process needs at its start: loading all of `crypto` for them would cost it 0.8 MiB.
 *
 * @throws A system error where there is no `/dev/urandom`.
 */
export function randomBytesAtStart(count: number): Buffer {
  const bytes = Buffer.alloc(count);
  const descriptor = openSync("/dev/urandom", "r");
  try {
    readSync(descriptor, bytes);
    return bytes;
  } finally {
    closeSync(descriptor);
  }
}
