import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { type WebSocket, WebSocketServer } from "ws";

/** Largest message of a WebSocket; clients send pieces of 32 KiB. */
const messageBytesMax = 4 * 1024 * 1024;

/** Opens WebSockets for clients that were agreed with upon a protocol. Loaded with the first of them. */
export class WebSockets {
  readonly #server = new WebSocketServer({ noServer: true, clientTracking: false, maxPayload: messageBytesMax });
  /** What was agreed upon for a WebSocket that is being opened. */
  readonly #protocols = new WeakMap<IncomingMessage, string>();

  constructor() {
    this.#server.on("headers", (headers, request) => {
      const protocol = this.#protocols.get(request) ?? "";
      headers.push(...(protocol === "" ? [] : [`Sec-WebSocket-Protocol: ${protocol}`]));
    });
  }

  /** Answers a request for a WebSocket. One that makes no sense is refused, and `opened` is not called. */
  open(
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
    { protocol, opened }: { readonly protocol: string; readonly opened: (webSocket: WebSocket) => void },
  ): void {
    // The library knows no protocol whose name holds a slash, as that of kubectl's port-forward does: it is not asked.
    delete request.headers["sec-websocket-protocol"];
    this.#protocols.set(request, protocol);
    this.#server.handleUpgrade(request, socket, head, opened);
  }
}
