import net from "node:net";
import type { Duplex } from "node:stream";
import tls from "node:tls";

/** What a server answered to a request to speak another protocol. */
export interface Upgraded {
  readonly status: number;
  /** By name in lower case; the last of several. */
  readonly headers: ReadonlyMap<string, string>;
  /** What follows the head of the answer, in both directions. */
  readonly socket: Duplex;
}

/** Asks a server to speak another protocol, and hands over the connection whatever it answers. Certificates are not checked. */
export async function requestUpgrade(
  url: string,
  headers: readonly string[],
  { method = "GET" }: { readonly method?: string } = {},
): Promise<Upgraded> {
  const { hostname, port, pathname, search, protocol } = new URL(url);
  const host = hostname.replace(/^\[|\]$/g, "");
  const socket =
    protocol === "https:"
      ? tls.connect({ host, port: Number(port), rejectUnauthorized: false })
      : net.connect({ host, port: Number(port) });
  socket.on("error", () => socket.destroy());
  socket.write(`${[`${method} ${pathname}${search} HTTP/1.1`, `Host: ${hostname}`, ...headers].join("\r\n")}\r\n\r\n`);
  let head = Buffer.alloc(0);
  for (let end = -1; end === -1; end = head.indexOf("\r\n\r\n")) {
    const chunk = (await read(socket)) as Buffer | null;
    if (chunk === null) {
      throw new Error(`the server closed the connection after ${JSON.stringify(head.toString())}`);
    }
    head = Buffer.concat([head, chunk]);
  }
  const end = head.indexOf("\r\n\r\n");
  socket.unshift(head.subarray(end + 4));
  const [first = "", ...lines] = head.toString("latin1", 0, end).split("\r\n");
  const fields = lines.map((line) => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()] as const;
  });
  return { status: Number(first.split(" ")[1]), headers: new Map(fields), socket };
}

async function read(socket: Duplex): Promise<unknown> {
  for (;;) {
    const chunk: unknown = socket.read();
    if (chunk !== null || socket.readableEnded || socket.destroyed) {
      return chunk;
    }
    await new Promise<void>((resolve) => {
      for (const event of ["readable", "end", "close"]) {
        socket.once(event, () => resolve());
      }
    });
  }
}

/** Resolves when a connection takes more, or is over. */
export async function drained(socket: Duplex): Promise<void> {
  await new Promise<void>((resolve) => {
    const done = (): void => {
      socket.off("drain", done).off("close", done);
      resolve();
    };
    socket.on("drain", done).on("close", done);
  });
}
