import type { ByteStream, Ingest } from "../ports.ts";

/** How much goes to the content store at once. While it takes one batch, the next is filled. */
const batchBytesMax = 1024 * 1024;

/**
 * Appends a stream to an ingest, in few large messages. Two buffers take turns, so that a download makes no garbage.
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
  const batchBytes = Math.max(1, Math.min(batchBytesMax, expectedBytes));
  let filling: Buffer = Buffer.allocUnsafeSlow(batchBytes);
  let resting: Buffer | undefined;
  let filledBytes = 0;
  let appending: Promise<void> = Promise.resolve();
  const passOn = async (): Promise<void> => {
    const batch = filling;
    const data = batch.subarray(0, filledBytes);
    filledBytes = 0;
    // The other buffer is ours again when the store has taken what was in it.
    await appending;
    filling = resting ?? Buffer.allocUnsafeSlow(batchBytes);
    resting = batch;
    appending = ingest.append(data).then(() => onAppended(ingest.offset));
    appending.catch(() => undefined);
  };
  try {
    for await (const piece of stream) {
      for (let taken = 0; taken < piece.length; ) {
        const length = Math.min(piece.length - taken, batchBytes - filledBytes);
        filling.set(piece.subarray(taken, taken + length), filledBytes);
        filledBytes += length;
        taken += length;
        if (filledBytes === batchBytes) {
          await passOn();
        }
      }
    }
  } finally {
    // What has come before a failure is worth keeping as well.
    if (filledBytes > 0) {
      await passOn();
    }
    await appending;
  }
}
