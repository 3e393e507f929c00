import { BatchedAppend } from "../batched-append.ts";
import type { ByteStream, Ingest } from "../ports.ts";

/** How much goes to the content store at once. */
const batchBytesMax = 1024 * 1024;

/**
 * Appends a stream to an ingest, in few large messages.
 *
 * @param expectedBytes - How much is to come; small things need no large buffers.
 * @param onAppended - Is told how many bytes the ingest has.
 */
export async function appendInBatches(
  ingest: Ingest,
  stream: ByteStream,
  expectedBytes: number,
  onAppended: (offset: number) => void,
): Promise<void> {
  const batches = new BatchedAppend(ingest, Math.max(1, Math.min(batchBytesMax, expectedBytes)), onAppended);
  try {
    for await (const piece of stream) {
      await batches.add(piece);
    }
  } finally {
    // What has come before a failure is worth keeping as well.
    await batches.end();
  }
}
