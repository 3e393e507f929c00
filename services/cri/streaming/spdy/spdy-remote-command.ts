import type { Duplex } from "node:stream";
import { ErrorKind, failure } from "#base/errors.ts";
import { type RemoteCommand, remoteCommand, type WantedStreams } from "../remote-command.ts";
import { SpdyConnection } from "./spdy-connection.ts";
import type { SpdyStream } from "./spdy-stream.ts";

/**
 * The protocols for commands over SPDY that we speak.
 *
 * @source k8s.io/cri-streaming pkg/streaming/remotecommand/constants.go `SupportedStreamingProtocols`
 */
export const spdyRemoteProtocols = ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];

/** Protocols in which the client tells the size of its terminal. */
const resizeProtocols = new Set(["v4.channel.k8s.io", "v3.channel.k8s.io"]);

/** How long a client may take to open its streams, in ms. @source k8s.io/cri-streaming remotecommand/constants.go `DefaultStreamCreationTimeout` */
const streamCreationMsMax = 30_000;

type StreamName = "error" | "stdin" | "stdout" | "stderr" | "resize";

/**
 * Waits for the streams that a client opens over SPDY.
 *
 * @param protocol - What was agreed upon with the client.
 * @throws {@link FlotillaError} `deadline_exceeded` when it does not open what it asked for in time, `unavailable` when it goes away. The
 *   connection is closed then.
 * @source k8s.io/cri-streaming pkg/streaming/remotecommand/httpstream.go `createHTTPStreamStreams`
 */
export async function acceptSpdyCommand(
  socket: Duplex,
  { protocol, wanted, idleMs }: { readonly protocol: string; readonly wanted: WantedStreams; readonly idleMs: number },
): Promise<RemoteCommand> {
  const expected = expectedStreams(protocol, wanted);
  const streams = new Map<string, SpdyStream>();
  const complete = Promise.withResolvers<void>();
  const connection = new SpdyConnection(socket, {
    idleMs,
    accepts: () => true,
    onStream: (stream) => {
      const name = stream.headers.get("streamtype") ?? "";
      if (name !== "stdin" && name !== "resize") {
        stream.ignore();
      }
      streams.set(name, stream);
      if (expected.every((one) => streams.has(one))) {
        complete.resolve();
      }
    },
  });
  const timer = setTimeout(
    () => complete.reject(failure(ErrorKind.DeadlineExceeded, "timed out waiting for client to create streams")),
    streamCreationMsMax,
  );
  const onClosed = (): void => complete.reject(failure(ErrorKind.Unavailable, "the client has gone"));
  connection.closed.addEventListener("abort", onClosed, { once: true });
  try {
    await complete.promise;
  } catch (error) {
    connection.close();
    throw error;
  } finally {
    clearTimeout(timer);
    connection.closed.removeEventListener("abort", onClosed);
  }
  const find = (name: StreamName): SpdyStream | undefined => (expected.includes(name) ? streams.get(name) : undefined);
  const error = find("error");
  return remoteCommand({
    wanted,
    stdin: find("stdin")?.bytes,
    stdout: find("stdout"),
    stderr: find("stderr"),
    resize: find("resize")?.bytes,
    writeError: async (bytes) => error?.write(bytes),
    isStatusJson: protocol === "v4.channel.k8s.io",
    closed: connection.closed,
    close: () => connection.close(),
  });
}

function expectedStreams(protocol: string, wanted: WantedStreams): StreamName[] {
  return [
    "error",
    ...(["stdin", "stdout", "stderr"] as const).filter((name) => wanted[name]),
    ...(wanted.tty && resizeProtocols.has(protocol) ? (["resize"] as const) : []),
  ];
}
