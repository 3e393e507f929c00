import type { ByteStream } from "../registry/ports.ts";
import type { ByteSender } from "../streams/byte-stream.ts";

/** Sends what comes in back as it is. @source containerd v2.3.4 core/transfer/local/transfer.go `echo` */
export async function echoBytes(source: ByteStream, destination: ByteSender): Promise<void> {
  for await (const piece of source) {
    // It is sent from where it is, and the next one may come into its memory.
    await destination.write(Buffer.from(piece));
  }
  await destination.settle();
}
