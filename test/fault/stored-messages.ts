import { readFile } from "node:fs/promises";
import net from "node:net";
import type { Daemon } from "../kit/daemon.ts";

/** An event as the stream keeps it, seen by a user of NATS. */
export interface StoredMessage {
  readonly messageId: string;
  readonly namespace: string;
  readonly topic: string;
  /** When it happened, as the publisher said, to the nanosecond. */
  readonly time: string;
  /** The event itself as JSON. */
  readonly body: string;
}

const stream = "containerd";
const inbox = "_INBOX.stored";
const answerMsMax = 20_000;

/** Reads all that is in the stream of a daemon that runs, in order, by the protocol of NATS and without our code. */
export async function readStoredMessages(daemon: Daemon): Promise<StoredMessage[]> {
  const url = new URL((await readFile(`${daemon.root}/io.flotilla.events.v1.nats/subscriber.url`, "utf8")).trim());
  const socket = net.connect(Number(url.port), url.hostname);
  socket.setTimeout(answerMsMax, () => socket.destroy(new Error("the NATS server does not answer")));
  const answers = answersOf(socket);
  const ask = async (subject: string, request: object): Promise<Record<string, unknown>> => {
    const body = JSON.stringify(request);
    socket.write(`PUB ${subject} ${inbox} ${Buffer.byteLength(body)}\r\n${body}\r\n`);
    const { value } = await answers.next();
    return JSON.parse(value ?? "{}") as Record<string, unknown>;
  };
  try {
    const options = { verbose: false, headers: true, user: url.username, pass: url.password };
    socket.write(`CONNECT ${JSON.stringify(options)}\r\nSUB ${inbox} 1\r\n`);
    const { state } = await ask(`$JS.API.STREAM.INFO.${stream}`, {});
    const { first_seq: first, last_seq: last } = state as { readonly first_seq: number; readonly last_seq: number };
    const messages: StoredMessage[] = [];
    for (let sequence = first; sequence <= last; sequence++) {
      const { message } = await ask(`$JS.API.STREAM.MSG.GET.${stream}`, { seq: sequence });
      messages.push(parseMessage(message as { readonly hdrs: string; readonly data?: string }));
    }
    return messages;
  } finally {
    socket.destroy();
  }
}

/** The bodies of the messages that a server sends. They are JSON without line ends. */
async function* answersOf(socket: net.Socket): AsyncGenerator<string, undefined> {
  let received = "";
  for await (const chunk of socket.setEncoding("utf8")) {
    received += String(chunk);
    for (let match = messagePattern.exec(received); match !== null; match = messagePattern.exec(received)) {
      received = received.slice(match.index + match[0].length);
      yield match[1] ?? "";
    }
  }
  throw new Error(`the NATS server closed the connection after ${JSON.stringify(received)}`);
}

const messagePattern = /MSG \S+ 1 \d+\r\n(.*)\r\n/;

function parseMessage({ hdrs, data = "" }: { readonly hdrs: string; readonly data?: string }): StoredMessage {
  const headers = Buffer.from(hdrs, "base64").toString("latin1");
  const header = (name: string): string => new RegExp(`^${name}: ?(.*)\\r$`, "m").exec(headers)?.[1] ?? "";
  return {
    messageId: header("Nats-Msg-Id"),
    namespace: header("ce-namespace"),
    topic: header("ce-subject"),
    time: header("ce-time"),
    body: Buffer.from(data, "base64").toString("utf8"),
  };
}
