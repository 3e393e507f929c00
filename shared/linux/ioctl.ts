import { nativeFunction, outcome } from "./libc.ts";

const callWithMemory = nativeFunction("int ioctl(int descriptor, unsigned long request, void *argument)");
const callWithNumber = nativeFunction("int ioctl(int descriptor, unsigned long request, long argument)");

/**
 * Asks a device or file system for something of its own, with memory that the kernel reads and may write.
 *
 * @returns What the call gives, or the negated error number; see `succeed` of `file.ts`.
 * @source ioctl(2)
 */
export function controlMemory(descriptor: number, request: number, memory: Uint8Array): number {
  return outcome(callWithMemory(descriptor, request, memory));
}

/** The same with a number. */
export function controlNumber(descriptor: number, request: number, argument: number): number {
  return outcome(callWithNumber(descriptor, request, argument));
}
