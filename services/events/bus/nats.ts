import { readFile } from "node:fs/promises";
import { type Authenticator, type ConnectionOptions, connect, credsAuthenticator, type MsgHdrs } from "nats";
import { ErrorKind, failure } from "#base/errors.ts";
import { publicKeyOf, signNonce } from "../nats/user-keys.ts";
import type { Link, Question, Reply, Ticket } from "./link.ts";

/** Where a NATS server is and who we are there. */
export interface NatsAddress {
  /** One or more URLs with commas between them, such as `nats://host:4222` or `tls://user:password@host`. */
  readonly url: string;
  /** Private key by which we sign what the server asks for; it is not sent. */
  readonly seed?: string | undefined;
  /** Called when the server has asked for the signature. What it throws ends the connection, and nothing is told. */
  beforeSigning?(): void;
  /** File with a user's JWT and seed, as `nsc` writes it; undefined for none. */
  readonly credentialsFile?: string;
  /** File with the certificates that sign the server's; undefined for the system's own. */
  readonly authorityFile?: string;
}

const dialMsMax = 2_000;
/** A server that does not answer two pings is gone. */
const pingMs = 5_000;
/** Prefix of the subjects for replies, which a user with rights on events only may not listen to. */
const inboxPrefix = "_FLOTILLA";

/**
 * Connects to a NATS server.
 *
 * @throws {@link FlotillaError} `unavailable` when there is none, or it does not let us in.
 * @source NATS docs, "Client Protocol"; nats.js 2.29
 */
export async function dialNats(address: NatsAddress): Promise<Link> {
  try {
    const connection = await connect({
      ...(await credentialsOf(address)),
      servers: address.url.split(",").map((url) => url.trim()),
      name: "flotilla: events",
      inboxPrefix,
      timeout: dialMsMax,
      pingInterval: pingMs,
      reconnect: false,
      ignoreClusterUpdates: true,
    });
    return new NatsLink(connection);
  } catch (error) {
    throw failure(ErrorKind.Unavailable, `no connection to NATS at ${withoutPassword(address.url)}`, { cause: error });
  }
}

async function credentialsOf(address: NatsAddress): Promise<ConnectionOptions> {
  const [url] = address.url.split(",");
  const named = new URL(url ?? "");
  const user = decodeURIComponent(named.username);
  return {
    ...(user === "" ? {} : { user, pass: decodeURIComponent(named.password) }),
    ...(address.seed === undefined ? {} : { authenticator: signer(address.seed, () => address.beforeSigning?.()) }),
    ...(address.credentialsFile === undefined
      ? {}
      : { authenticator: credsAuthenticator(await readFile(address.credentialsFile)) }),
    ...(address.authorityFile === undefined ? {} : { tls: { caFile: address.authorityFile } }),
  };
}

function signer(seed: string, beforeSigning: () => void): Authenticator {
  return (nonce = "") => {
    beforeSigning();
    return { nkey: publicKeyOf(seed), sig: signNonce(seed, nonce) };
  };
}

/** A URL that may be logged. */
export function withoutPassword(url: string): string {
  return url.replace(/\/\/[^@/,]*@/g, "//");
}

type Connection = Awaited<ReturnType<typeof connect>>;

class NatsLink implements Link {
  readonly messageBytesMax: number;
  readonly closed: Promise<Error | undefined>;
  readonly #connection: Connection;
  readonly #inbox: string;
  readonly #waiting = new Map<number, (reply: Reply) => void>();
  readonly #closeListeners = new Set<() => void>();
  #asked = 0;

  constructor(connection: Connection) {
    this.#connection = connection;
    this.messageBytesMax = connection.info?.max_payload ?? 0;
    this.closed = connection.closed().then((error) => {
      this.#waiting.clear();
      for (const listener of this.#closeListeners) {
        listener();
      }
      this.#closeListeners.clear();
      return error instanceof Error ? error : undefined;
    });
    this.#inbox = `${inboxPrefix}.${connection.info?.client_id ?? 0}.${process.pid}.${process.hrtime.bigint()}`;
    connection.subscribe(`${this.#inbox}.*`, {
      callback: (error, message) => {
        if (error === null) {
          const ticket = Number(message.subject.slice(this.#inbox.length + 1));
          const onReply = this.#waiting.get(ticket);
          this.#waiting.delete(ticket);
          onReply?.(replyOf(message));
        }
      },
    });
  }

  ask(message: Question, onReply: (reply: Reply) => void): Ticket {
    this.#asked++;
    const ticket = this.#asked as Ticket;
    if (!this.#connection.isClosed()) {
      this.#waiting.set(ticket, onReply);
      this.#publish(message, `${this.#inbox}.${ticket}`);
    }
    return ticket;
  }

  tell(message: Question): void {
    if (!this.#connection.isClosed()) {
      this.#publish(message, "");
    }
  }

  #publish({ subject, headers, body }: Question, reply: string): void {
    this.#connection.publish(
      subject,
      body,
      headers === "" ? { reply } : { reply, headers: new EncodedHeaders(headers) },
    );
  }

  onClose(listener: () => void): () => void {
    if (this.#connection.isClosed()) {
      listener();
    } else {
      this.#closeListeners.add(listener);
    }
    return () => this.#closeListeners.delete(listener);
  }

  forget(ticket: Ticket): void {
    this.#waiting.delete(ticket);
  }

  async close(): Promise<void> {
    this.#waiting.clear();
    await this.#connection.close();
  }
}

/**
 * Headers that are sent as they are. nats.js asks those that it publishes for nothing but their bytes, and making a list of its own from the
 * names and values of an event costs more than all else that is done to publish it.
 *
 * @source nats.js 2.29 nats-base-client/protocol.js `publish`
 */
const EncodedHeaders = class {
  readonly #lines: string;

  constructor(lines: string) {
    this.#lines = lines;
  }

  encode(): Uint8Array {
    return Buffer.from(`NATS/1.0\r\n${this.#lines}\r\n`, "latin1");
  }
} as unknown as new (
  lines: string,
) => MsgHdrs;

function replyOf(message: { readonly headers?: MsgHdrs; readonly data: Uint8Array }): Reply {
  return {
    status: message.headers?.code ?? 0,
    header: (name) => (message.headers?.has(name) === true ? message.headers.get(name) : undefined),
    body: message.data,
  };
}
