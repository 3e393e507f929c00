import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import test from "node:test";
import { promisify } from "node:util";
import { ErrorKind, FlotillaError, failure } from "#base/errors.ts";
import { Events } from "#gen/containerd/services/events/ttrpc/v1/events_pb.ts";
import { bindService } from "#wire/handler.ts";
import { listen } from "#wire/listen.ts";
import { connectTtrpc, type TtrpcClient } from "#wire/ttrpc/client.ts";
import { encodeFrame, FrameParser, FrameType } from "#wire/ttrpc/frame.ts";
import { serveTtrpc, type TtrpcServer } from "#wire/ttrpc/server.ts";
import { TtrpcRelay } from "../../services/gateway/ttrpc-relay.ts";
import { until } from "../kit/processes.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";

/** A relay with a public socket, and the place where the events process would be. */
interface Stand extends AsyncDisposable {
  readonly relay: TtrpcRelay;
  readonly listener: net.Server;
  readonly address: string;
  readonly upstream: string;
  connect(): Promise<TtrpcClient>;
  /** Serves events. @param answer - Takes the topic of each; what it throws is the answer. */
  serve(answer: (topic: string) => void | Promise<void>): Promise<TtrpcServer>;
}

async function buildStand(): Promise<Stand> {
  const directory = await makeTemporaryDirectory("relay");
  const upstream = `${directory.path}/events.sock`;
  const address = `${directory.path}/public.sock`;
  const relay = new TtrpcRelay({ connectUpstream: () => net.connect(upstream), onWarning: () => undefined });
  const owner = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
  const listener = await listen({ socketPath: address, owner }, (socket) => relay.handleConnection(socket));
  const servers: TtrpcServer[] = [];
  return {
    relay,
    listener,
    address,
    upstream,
    connect: () => connectTtrpc(address),
    async serve(answer) {
      const forward = async ({ envelope }: { readonly envelope?: { readonly topic: string } | undefined }) => {
        await answer(envelope?.topic ?? "");
        return {};
      };
      const server = await serveTtrpc({
        socketPath: upstream,
        services: [bindService(Events, { forward })],
      });
      servers.push(server);
      return server;
    },
    async [Symbol.asyncDispose]() {
      listener.close();
      await relay.close(0);
      await Promise.all(servers.map((server) => server.close(0)));
      await directory[Symbol.asyncDispose]();
    },
  };
}

const tell = (client: TtrpcClient, topic: string): Promise<unknown> =>
  client.unary(Events.method.forward, { envelope: { topic } });

test("events wait for a process that comes late, and reach it in order though their shim is gone", async () => {
  await using stand = await buildStand();
  const client = await stand.connect();
  const topics = ["/a/1", "/a/2", "/a/3"];
  let answered = 0;
  const told = topics.map((topic) => tell(client, topic).then(() => answered++));
  // What comes back on another connection has passed the relay after all that.
  const other = await stand.connect();
  const passed = tell(other, "/b/1");
  client.close();
  assert.deepEqual(
    (await Promise.allSettled(told)).map(({ status }) => status),
    ["rejected", "rejected", "rejected"],
  );
  const got: string[] = [];
  await stand.serve((topic) => {
    got.push(topic);
  });
  await passed;
  await until(
    () => got.length === 4,
    () => `got ${got.join(" ")}`,
  );
  assert.deepEqual(
    got.filter((topic) => topic.startsWith("/a/")),
    topics,
  );
  assert.equal(answered, 0);
  other.close();
});

test("an event whose process dies before the answer is sent to the next one", async () => {
  await using stand = await buildStand();
  const asked = Promise.withResolvers<net.Socket>();
  const dying = net.createServer((socket) => socket.once("data", () => asked.resolve(socket)));
  await once(dying.listen(stand.upstream), "listening");
  const client = await stand.connect();
  const told = tell(client, "/b/1");
  const socket = await asked.promise;
  dying.close();
  socket.destroy();
  const got: string[] = [];
  await stand.serve((topic) => {
    got.push(topic);
  });
  await told;
  assert.deepEqual(got, ["/b/1"]);
  client.close();
});

test("a refusal goes to who asked, and nothing is sent again because of it", async () => {
  await using stand = await buildStand();
  let tries = 0;
  const isRefusing = Promise.withResolvers<void>();
  await stand.serve(async (topic) => {
    tries++;
    if (topic === "/c/refused") {
      isRefusing.resolve();
      throw failure(ErrorKind.Unavailable, "no NATS");
    }
    await isRefusing.promise;
  });
  const clients = await Promise.all(Array.from({ length: 20 }, () => stand.connect()));
  const waiting = clients.flatMap((client) => [1, 2, 3].map((number) => tell(client, `/c/${number}`)));
  const [first] = clients;
  assert.ok(first);
  await until(
    () => tries === 60,
    () => `${tries} events have come`,
  );
  await assert.rejects(
    tell(first, "/c/refused"),
    (error) => error instanceof FlotillaError && error.kind === ErrorKind.Unavailable,
  );
  await Promise.all(waiting);
  assert.equal(tries, 61);
  clients.forEach((client) => client.close());
});

test("a request beyond the limit is refused, and the connection goes on", async () => {
  await using stand = await buildStand();
  await stand.serve(() => undefined);
  const socket = net.connect(stand.address);
  const frames = new FrameParser();
  const answers: number[] = [];
  socket.on("data", (chunk: Buffer) => {
    for (const frame of frames.push(chunk)) {
      answers.push(frame.streamId);
    }
  });
  const header = Buffer.from([0, 0x50, 0, 0, 0, 0, 0, 1, FrameType.Request, 0]);
  socket.write(Buffer.concat([header, Buffer.alloc(0x50_0000)]));
  socket.write(encodeFrame({ streamId: 3, type: FrameType.Request, flags: 0, data: Buffer.alloc(0) }));
  await until(
    () => answers.length === 2,
    () => `answered: ${answers.join(" ")}`,
  );
  assert.deepEqual(answers, [1, 3]);
  socket.destroy();
});

test("closing waits for the answers that are due", async () => {
  await using stand = await buildStand();
  const answer = Promise.withResolvers<void>();
  const asked = Promise.withResolvers<void>();
  await stand.serve(async () => {
    asked.resolve();
    await answer.promise;
  });
  const client = await stand.connect();
  const told = tell(client, "/e/1");
  await asked.promise;
  const closing = stand.relay.close(5_000);
  answer.resolve();
  await Promise.all([told, closing]);
  await client.closed;
});

test("a client that hangs up leaves no connection behind", async () => {
  await using stand = await buildStand();
  const count = (): Promise<number> => promisify(stand.listener.getConnections.bind(stand.listener))();
  for (let round = 0; round < 3; round++) {
    (await stand.connect()).close();
  }
  await until(
    async () => (await count()) === 0,
    () => "connections are still open",
  );
});
