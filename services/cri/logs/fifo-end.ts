import { closeSync, constants, fstatSync, openSync } from "node:fs";
import net from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { ErrorKind, FlotillaError, systemErrorCode } from "#base/errors.ts";
import type { ByteSink } from "./byte-streams.ts";

/** One end of a named pipe, which is let go of by `close`. */
interface FifoEnd {
  close(): void;
}

/** The end that is read. */
export interface FifoReader extends FifoEnd {
  /**
   * Hands on what is written, as soon as it is read and piece by piece. To be called once.
   *
   * @param take - Gives a promise where the next piece is to wait; while it waits, one more piece may be in memory. When it rejects, this end
   *   is closed.
   * @returns Resolves when the last writer has gone, once there was one, or when this end is closed. Never rejects.
   */
  follow(take: (bytes: Uint8Array) => Promise<void> | undefined): Promise<void>;
}

/** The end that is written. */
export interface FifoWriter extends FifoEnd, ByteSink {}

/**
 * Opens a named pipe to read what a shim writes. The shim may come later: the pipe does not end before somebody has had it open to write.
 *
 * @param options.hadWriter - Whether somebody has had it open already, who may have gone since: then it may end at once.
 * @throws When there is no such pipe, or {@link FlotillaError} `unknown` when something else has its name.
 * @source fifo(7), poll(2) on POLLHUP
 */
export function openFifoReader(path: string, { hadWriter = false }: { readonly hadWriter?: boolean } = {}): FifoReader {
  const descriptor = openFifo(path, constants.O_RDONLY);
  if (hadWriter) {
    // The kernel tells a reader of the writers that have gone since it came, and this is one.
    closeSync(openFifo(path, constants.O_WRONLY));
  }
  let socket: net.Socket | undefined;
  let isClosed = false;
  return {
    follow: (take) => {
      if (isClosed) {
        return Promise.resolve();
      }
      // Made now and not before, since it reads at once.
      socket = new net.Socket(onePieceAhead(descriptor));
      return followed(socket, take);
    },
    close: () => {
      if (socket !== undefined) {
        socket.destroy();
      } else if (!isClosed) {
        closeSync(descriptor);
      }
      isClosed = true;
    },
  };
}

/** How long a shim may take to open its end, after it has said that the process runs. */
const openedMsMax = 5_000;
const openPollMs = 5;

/**
 * Opens a named pipe to write what a shim reads. The shim opens its end beside its other work, and may not have come to it when the process runs.
 *
 * @throws With code `ENXIO` when nobody reads there: the process has none to read for, or has ended.
 * @source containerd/fifo fifo.go `OpenFifo`, which opens in a goroutine
 */
export async function openFifoWriter(path: string): Promise<FifoWriter> {
  for (const deadline = performance.now() + openedMsMax; ; await delay(openPollMs)) {
    try {
      return openWriter(path);
    } catch (error) {
      if (systemErrorCode(error) !== "ENXIO" || performance.now() >= deadline) {
        throw error;
      }
    }
  }
}

function openWriter(path: string): FifoWriter {
  const socket = new net.Socket({ fd: openFifo(path, constants.O_WRONLY), readable: false, writable: true });
  socket.on("error", () => socket.destroy());
  return {
    write: (bytes) => written(socket, bytes),
    end: () => {
      if (socket.destroyed || socket.writableEnded) {
        return Promise.resolve();
      }
      return new Promise((resolve) => {
        socket.once("close", () => resolve());
        socket.end(() => socket.destroy());
      });
    },
    close: () => socket.destroy(),
  };
}

function openFifo(path: string, direction: number): number {
  const descriptor = openSync(path, direction | constants.O_NONBLOCK | constants.O_NOFOLLOW);
  if (!fstatSync(descriptor).isFIFO()) {
    closeSync(descriptor);
    throw new FlotillaError(ErrorKind.Unknown, `${path} is no named pipe`);
  }
  return descriptor;
}

function onePieceAhead(fd: number): net.SocketConstructorOpts & { readonly highWaterMark: number } {
  return { fd, readable: true, writable: false, highWaterMark: 1 };
}

async function followed(socket: net.Socket, take: (bytes: Uint8Array) => Promise<void> | undefined): Promise<void> {
  let last: Promise<void> | undefined;
  socket.on("data", (bytes: Uint8Array) => {
    const taken = take(bytes);
    if (taken !== undefined) {
      socket.pause();
      last = taken.then(
        () => void socket.resume(),
        () => void socket.destroy(),
      );
    }
  });
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.on("error", () => socket.destroy());
  socket.on("close", () => resolve());
  await promise;
  await last;
}

async function written(socket: net.Socket, bytes: Uint8Array): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const onClose = (): void => reject(new FlotillaError(ErrorKind.Unavailable, "the process reads no more"));
  if (socket.destroyed || socket.writableEnded) {
    onClose();
  } else {
    socket.once("close", onClose);
    socket.write(bytes, (error) => (error ? reject(error) : resolve()));
  }
  await promise.finally(() => socket.off("close", onClose));
}
