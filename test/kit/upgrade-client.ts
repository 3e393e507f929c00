import net from "node:net";
import type { Duplex } from "node:stream";
import tls from "node:tls";
import { openSocketInNamespace } from "#linux/network-namespace.ts";

/** What a server answered to a request to speak another protocol. */
export interface Upgraded {
  readonly status: number;
  /** By name in lower case; the last of several. */
  readonly headers: ReadonlyMap<string, string>;
  /** What follows the head of the answer, in both directions. */
  readonly socket: Duplex;
}

/** How a server is asked. */
export interface UpgradeOptions {
  readonly method?: string;
  /** Path of the network namespace in which the server is; that of this process unless given. */
  readonly networkNamespace?: string | undefined;
}

function connect(place: { readonly host: string; readonly port: number }, networkNamespace?: string): net.Socket {
  const options =
    networkNamespace === undefined
      ? {}
      : { fd: openSocketInNamespace(networkNamespace, "ipv4"), manualStart: true as const };
  return new net.Socket(options).connect(place);
}

/** Asks a server to speak another protocol, and hands over the connection whatever it answers. Certificates are not checked. */
export async function requestUpgrade(
  url: string,
  headers: readonly string[],
  { method = "GET", networkNamespace }: UpgradeOptions = {},
): Promise<Upgraded> {
  const { hostname, port, pathname, search, protocol } = new URL(url);
  const host = hostname.replace(/^\[|\]$/g, "");
  const connection = connect({ host, port: Number(port) }, networkNamespace);
  const socket = protocol === "https:" ? tls.connect({ socket: connection, rejectUnauthorized: false }) : connection;
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

/** An address in a network namespace of its own. */
export interface LocatedUrl {
  readonly url: string;
  readonly networkNamespace: string;
}

/** The parts of an address, wherever it is. */
export function locate(url: string | LocatedUrl): { readonly url: string; readonly networkNamespace?: string } {
  return typeof url === "string" ? { url } : url;
}
