import type { Socket } from "node:net";
import { prefaceMsMax } from "./limits.ts";
import { clientPreface } from "./protocol.ts";

/** What a new connection turned out to be. */
export interface SniffedConnection {
  /** The client sent HTTP/2's preface; `rest` is what followed it. */
  onHttp2(rest: Buffer): void;
  /** The client sent something else; `head` is all of it so far. The socket is paused. */
  onOther(head: Buffer): void;
}

/**
 * Finds out whether a client speaks HTTP/2, by the first bytes that it sends. A client that sends too few for too long
 * is cut off.
 *
 * @source RFC 9113 section 3.4
 */
export function sniffPreface(socket: Socket, found: SniffedConnection): void {
  let head: Buffer = Buffer.alloc(0);
  const end = (): void => {
    socket.destroy();
  };
  const timer = setTimeout(end, prefaceMsMax);
  const stop = (): void => {
    clearTimeout(timer);
    socket.off("data", onData);
    socket.off("error", end);
    socket.off("end", end);
    socket.off("close", stop);
  };
  const onData = (chunk: Buffer): void => {
    head = head.length === 0 ? chunk : Buffer.concat([head, chunk]);
    const comparedBytes = Math.min(head.length, clientPreface.length);
    if (clientPreface.compare(head, 0, comparedBytes, 0, comparedBytes) !== 0) {
      stop();
      socket.pause();
      found.onOther(head);
    } else if (comparedBytes === clientPreface.length) {
      stop();
      found.onHttp2(head.subarray(comparedBytes));
    }
  };
  socket.on("data", onData);
  socket.on("error", end);
  socket.on("end", end);
  socket.on("close", stop);
}
