import type { Duplex } from "node:stream";
import { aborted } from "#base/aborted.ts";
import { type ForwardTarget, forwardOne, parsePort } from "../port-forward.ts";
import { ResetStatus } from "./frames.ts";
import type { SpdyHeaders } from "./header-block.ts";
import { SpdyConnection } from "./spdy-connection.ts";
import type { SpdyStream } from "./spdy-stream.ts";

/** @source k8s.io/cri-streaming pkg/streaming/portforward/constants.go `SupportedProtocols` */
export const spdyForwardProtocols = ["portforward.k8s.io"];

/** How long the second stream of a pair may stay out, in ms. @source k8s.io/cri-streaming remotecommand/constants.go `DefaultStreamCreationTimeout` */
const pairMsMax = 30_000;

interface Pair {
  data?: SpdyStream;
  error?: SpdyStream;
  timer: NodeJS.Timeout;
}

/**
 * Forwards ports over SPDY until the client goes: for each connection it opens one stream for data and one for errors, which name the port and
 * each other.
 *
 * @source k8s.io/cri-streaming pkg/streaming/portforward/httpstream.go `httpStreamHandler`
 */
export async function serveSpdyForward(socket: Duplex, target: ForwardTarget): Promise<void> {
  const pairs = new Map<string, Pair>();
  const connection = new SpdyConnection(socket, {
    idleMs: target.idleMs,
    accepts: isForwardStream,
    onStream: (stream) => {
      const id = requestId(stream);
      const pair = pairs.get(id) ?? { timer: setTimeout(() => dropPair(pairs, id), pairMsMax) };
      pairs.set(id, pair);
      if (!addToPair(pair, stream)) {
        const message = `error processing stream for request ${id}: ${typeOf(stream)} stream already assigned`;
        void (pair.error ?? stream).write(Buffer.from(message)).catch(() => undefined);
        stream.reset(ResetStatus.Cancel);
      } else if (pair.data !== undefined && pair.error !== undefined) {
        clearTimeout(pair.timer);
        pairs.delete(id);
        void forwardPair(target, pair.data, pair.error);
      }
    },
  });
  await aborted(connection.closed);
  for (const { timer } of pairs.values()) {
    clearTimeout(timer);
  }
}

function isForwardStream(headers: SpdyHeaders): boolean {
  return parsePort(headers.get("port")) !== undefined && /^(?:data|error)$/.test(headers.get("streamtype") ?? "");
}

function typeOf(stream: SpdyStream): string {
  return stream.headers.get("streamtype") ?? "";
}

/** Clients of old give no id: their data stream is the one after the error stream. */
function requestId(stream: SpdyStream): string {
  return stream.headers.get("requestid") || String(typeOf(stream) === "error" ? stream.id : stream.id - 2);
}

function addToPair(pair: Pair, stream: SpdyStream): boolean {
  const type = typeOf(stream) === "error" ? "error" : "data";
  if (pair[type] !== undefined) {
    return false;
  }
  pair[type] = stream;
  if (type === "error") {
    stream.ignore();
  }
  return true;
}

function dropPair(pairs: Map<string, Pair>, id: string): void {
  const pair = pairs.get(id);
  pairs.delete(id);
  const message = Buffer.from(`request ${id} timed out waiting for streams`);
  void pair?.error?.write(message).catch(() => undefined);
  pair?.data?.reset(ResetStatus.Cancel);
  void pair?.error?.end();
}

async function forwardPair(target: ForwardTarget, data: SpdyStream, error: SpdyStream): Promise<void> {
  const port = parsePort(data.headers.get("port"));
  if (port !== undefined && !(await forwardOne(target, port, { data, error, closed: data.closed }))) {
    data.reset(ResetStatus.Cancel);
    error.reset(ResetStatus.Cancel);
  }
  // Neither is read any more: what the client still sends on them must not hold up others.
  data.ignore();
}
