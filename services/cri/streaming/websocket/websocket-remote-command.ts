import type { WebSocket } from "ws";
import { type RemoteCommand, remoteCommand, type WantedStreams } from "../remote-command.ts";
import { WebSocketChannels } from "./channels.ts";

/**
 * The protocols for commands over a WebSocket that we speak, with the empty one for a client that names none.
 *
 * @source k8s.io/cri-streaming pkg/streaming/remotecommand/websocket.go `createWebSocketStreams`; the fifth, which adds the end of a single
 *   stream, is that of k8s.io/apimachinery pkg/util/remotecommand/constants.go `StreamProtocolV5Name`
 */
export const webSocketRemoteProtocols = [
  "v5.channel.k8s.io",
  "v4.channel.k8s.io",
  "v4.base64.channel.k8s.io",
  "channel.k8s.io",
  "base64.channel.k8s.io",
  "",
];

/** @source k8s.io/cri-streaming pkg/streaming/remotecommand/websocket.go */
const channels = { stdin: 0, stdout: 1, stderr: 2, error: 3, resize: 4 } as const;

/**
 * The streams of a client that has come over a WebSocket. It is told that it is connected by an empty message.
 *
 * @param protocol - What was agreed upon with the client.
 */
export async function acceptWebSocketCommand(
  socket: WebSocket,
  { protocol, wanted, idleMs }: { readonly protocol: string; readonly wanted: WantedStreams; readonly idleMs: number },
): Promise<RemoteCommand> {
  const connection = new WebSocketChannels(socket, {
    isBase64: protocol.endsWith("base64.channel.k8s.io"),
    hasCloseSignal: protocol.startsWith("v5."),
    readable: [channels.resize, ...(wanted.stdin ? [channels.stdin] : [])],
    idleMs,
  });
  const first = (["stdout", "stderr"] as const).find((name) => wanted[name]) ?? "error";
  await connection.sink(channels[first]).write(new Uint8Array());
  return remoteCommand({
    wanted,
    stdin: wanted.stdin ? connection.source(channels.stdin) : undefined,
    stdout: wanted.stdout ? connection.sink(channels.stdout) : undefined,
    stderr: wanted.stderr ? connection.sink(channels.stderr) : undefined,
    resize: connection.source(channels.resize),
    writeError: (bytes) => connection.sink(channels.error).write(bytes),
    isStatusJson: /^v[45]\./.test(protocol),
    closed: connection.closed,
    close: () => connection.close(),
  });
}
