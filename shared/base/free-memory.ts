/**
 * Gives the memory behind a buffer back at once; the buffer is empty from then on. For those who deal with large buffers that are made for them,
 * one after the other.
 *
 * V8 counts the small objects in front of buffers and hardly what is behind them: of its own accord it lets some 64 MiB of dead ones lie in each
 * thread, and then marks the whole heap to find them.
 *
 * The caller owns all of it, and nobody else may use any part of it still, be it the kernel for a write that has not ended.
 *
 * @source V8 src/heap/external-memory-accounter.h `kExternalAllocationSoftLimit`
 */
export function freeMemory(memory: ArrayBufferLike): void {
  if (memory instanceof ArrayBuffer) {
    memory.transfer(0);
  }
}
