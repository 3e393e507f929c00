import type { ByteStream, Ingest } from "../ports.ts";

/** How much goes to the content store at once. While it takes one batch, the next is received. */
const batchBytes = 1024 * 1024;

/**
 * Appends a stream to an ingest, in few large messages.
 *
 * @param onAppended - Is told how many bytes the ingest has.
 */
export async function appendInBatches(
  ingest: Ingest,
  stream: ByteStream,
  onAppended: (offset: number) => void,
): Promise<void> {
  let pieces: Uint8Array[] = [];
  let waitingBytes = 0;
  let appending: Promise<void> = Promise.resolve();
  const startBatch = async (): Promise<void> => {
    const data = pieces.length === 1 && pieces[0] !== undefined ? pieces[0] : Buffer.concat(pieces, waitingBytes);
    pieces = [];
    waitingBytes = 0;
    await appending;
    appending = ingest.append(data).then(() => onAppended(ingest.offset));
    appending.catch(() => undefined);
  };
  try {
    for await (const piece of stream) {
      pieces.push(piece);
      waitingBytes += piece.length;
      if (waitingBytes >= batchBytes) {
        await startBatch();
      }
    }
  } finally {
    // What has come before a failure is worth keeping as well.
    if (waitingBytes > 0) {
      await startBatch();
    }
    await appending;
  }
}
