import type { IncomingMessage } from "node:http";
import { STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";

/** An answer to a client that is not let through. */
export interface Refusal {
  readonly status: number;
  readonly text: string;
  readonly headers?: readonly string[];
}

/** What was agreed upon with a client. */
export type Agreement = { readonly transport: "spdy" | "websocket"; readonly protocol: string };

/** What one kind of stream can be spoken in. */
export interface Dialects {
  readonly spdy: readonly string[];
  readonly webSocket: readonly string[];
}

/**
 * Finds what a client and we both speak.
 *
 * @source k8s.io/streaming pkg/httpstream/httpstream.go `Handshake`, spdy/upgrade.go `UpgradeResponse`, wsstream/conn.go `handshake`
 */
export function agree(request: IncomingMessage, dialects: Dialects): Agreement | Refusal {
  const isUpgrade = /upgrade/i.test(request.headers.connection ?? "");
  const upgrade = request.headers.upgrade?.toLowerCase() ?? "";
  if (isUpgrade && upgrade === "websocket") {
    return agreeOnWebSocket(request, dialects.webSocket);
  }
  const offered = request.headers["x-stream-protocol-version"];
  if (offered === undefined) {
    const count = Object.keys(request.headers).length;
    return badRequest(`header X-Stream-Protocol-Version does not exist in request with ${count} headers`);
  }
  const offers = listOf(offered);
  if (offers.length === 0) {
    return badRequest(`header X-Stream-Protocol-Version contains [${String(offered)}], but no valid protocols`);
  }
  const protocol = offers.find((offer) => dialects.spdy.includes(offer));
  if (protocol === undefined) {
    const [ours, theirs] = [dialects.spdy.join(" "), offers.join(" ")];
    return {
      status: 403,
      text: `unable to upgrade: unable to negotiate protocol: client supports [${theirs}], server accepts [${ours}]\n`,
      headers: dialects.spdy.map((one) => `X-Accepted-Stream-Protocol-Versions: ${one}`),
    };
  }
  if (!isUpgrade || !upgrade.includes("spdy/3.1")) {
    return badRequest("missing upgrade headers in request");
  }
  return { transport: "spdy", protocol };
}

function agreeOnWebSocket(request: IncomingMessage, ours: readonly string[]): Agreement | Refusal {
  const offers = listOf(request.headers["sec-websocket-protocol"] ?? "");
  const protocol = (offers.length === 0 ? [""] : offers).find((offer) => ours.includes(offer));
  return protocol === undefined ? { status: 403, text: "" } : { transport: "websocket", protocol };
}

function badRequest(why: string): Refusal {
  return { status: 400, text: `unable to upgrade: ${why}\n` };
}

function listOf(header: string | readonly string[]): string[] {
  return [header]
    .flat()
    .flatMap((values) => values.split(","))
    .map((value) => value.trim())
    .filter((value) => value !== "");
}

/** Answers a client whose connection is ours already, and closes it. */
export function refuse(socket: Duplex, { status, text, headers = [] }: Refusal): void {
  const lines = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}`,
    ...headers,
    "Content-Type: text/plain; charset=utf-8",
    "X-Content-Type-Options: nosniff",
    `Content-Length: ${Buffer.byteLength(text)}`,
    "Connection: close",
  ];
  socket.end(`${lines.join("\r\n")}\r\n\r\n${text}`);
}

/** Tells a client that its connection speaks SPDY from now on. */
export function switchToSpdy(socket: Duplex, protocol: string): void {
  const lines = [
    "HTTP/1.1 101 Switching Protocols",
    `X-Stream-Protocol-Version: ${protocol}`,
    "Connection: Upgrade",
    "Upgrade: SPDY/3.1",
  ];
  socket.write(`${lines.join("\r\n")}\r\n\r\n`);
}
