import type { WebSocket } from "ws";
import { type ForwardTarget, forwardOne } from "../port-forward.ts";
import { serveSpdyForward } from "../spdy/spdy-port-forward.ts";
import { WebSocketChannels } from "./channels.ts";

/** SPDY inside of a WebSocket, as kubectl speaks it. @source k8s.io/streaming pkg/httpstream/wsstream `protocolSupportsWebsocketTunneling` */
const tunnelProtocol = "SPDY/3.1+portforward.k8s.io";

/**
 * The protocols for forwarded ports over a WebSocket that we speak, with the empty one for a client that names none.
 *
 * @source k8s.io/cri-streaming pkg/streaming/portforward/websocket.go `handleWebSocketStreams`; the first is that of kubectl
 *   (k8s.io/apimachinery pkg/util/portforward/constants.go `WebsocketsSPDYTunnelingPortForwardV1`)
 */
export const webSocketForwardProtocols = [tunnelProtocol, "v4.channel.k8s.io", "v4.base64.channel.k8s.io", ""];

/**
 * Forwards ports over a WebSocket until all have ended or the client goes.
 *
 * @param protocol - What was agreed upon with the client.
 * @param ports - As the request had them; each has a channel for data and one for errors, whose first message names it. In a tunnel the client
 *   names ports itself.
 */
export async function serveWebSocketForward(
  socket: WebSocket,
  {
    protocol,
    ports,
    target,
  }: { readonly protocol: string; readonly ports: readonly number[]; readonly target: ForwardTarget },
): Promise<void> {
  if (protocol === tunnelProtocol) {
    const { createWebSocketStream } = await import("ws");
    await serveSpdyForward(createWebSocketStream(socket), target);
    return;
  }
  const connection = new WebSocketChannels(socket, {
    isBase64: protocol === "v4.base64.channel.k8s.io",
    hasCloseSignal: false,
    readable: ports.map((_, index) => 2 * index),
    idleMs: target.idleMs,
  });
  await Promise.all(ports.map((port, index) => forwardChannel(connection, { port, channel: 2 * index, target })));
  connection.close();
}

async function forwardChannel(
  connection: WebSocketChannels,
  { port, channel, target }: { readonly port: number; readonly channel: number; readonly target: ForwardTarget },
): Promise<void> {
  const data = { bytes: connection.source(channel), ...connection.sink(channel) };
  const error = connection.sink(channel + 1);
  const name = Buffer.alloc(2);
  name.writeUInt16LE(port);
  try {
    await data.write(name);
    await error.write(name);
  } catch {
    return;
  }
  await forwardOne(target, port, { data, error, closed: connection.closed });
}
