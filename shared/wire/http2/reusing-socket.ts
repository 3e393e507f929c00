import { Socket } from "node:net";
import type { Chunk } from "./chunk.ts";
import { ReadBuffer } from "./read-buffer.ts";

/**
 * A socket whose bytes come into the same memory again and again, in pieces of up to 256 KiB. Of Node.js' own sockets every read makes
 * a buffer of 64 KiB, be it for one byte.
 */
export class ReusingSocket extends Socket {
  /** Takes what was read; the bytes are others' when it returns, unless it holds the chunk. Set before anything can come. */
  onChunk: (chunk: Chunk) => void = (chunk) => chunk.release();

  constructor() {
    const reads = new ReadBuffer();
    super({
      allowHalfOpen: true,
      onread: {
        buffer: () => reads.next(),
        callback: (sizeBytes) => {
          this.onChunk(reads.take(sizeBytes));
          return true;
        },
      },
    });
  }
}

/** Begins to connect to a Unix socket of a process. What goes wrong is the socket's `error`. */
export function dial(socketPath: string): ReusingSocket {
  const socket = new ReusingSocket();
  socket.connect({ path: socketPath });
  return socket;
}
