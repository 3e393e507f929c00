import assert from "node:assert/strict";
import net from "node:net";
import test from "node:test";
import { promisify } from "node:util";
import { ErrorKind, FlotillaError, failure } from "#base/errors.ts";
import { Events } from "#gen/containerd/services/events/ttrpc/v1/events_pb.ts";
import { bindService } from "#wire/handler.ts";
import { connectTtrpc, type TtrpcClient } from "#wire/ttrpc/client.ts";
import { serveTtrpc, type TtrpcServer } from "#wire/ttrpc/server.ts";
import { listenPublic } from "../../services/gateway/listener.ts";
import { TtrpcRelay } from "../../services/gateway/ttrpc-relay.ts";
import { until } from "../kit/processes.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";

/** A relay with a public socket, and the place where the events process would be. */
interface Stand extends AsyncDisposable {
  readonly relay: TtrpcRelay;
  readonly listener: net.Server;
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
  const listener = await listenPublic({ address, ...owner }, (socket) => relay.handleConnection(socket));
  const servers: TtrpcServer[] = [];
  return {
    relay,
    listener,
    connect: () => connectTtrpc(address),
    async serve(answer) {
      const forward = async ({ envelope }: { readonly envelope?: { readonly topic: string } | undefined }) => {
        await answer(envelope?.topic ?? "");
        return {};
      };
      const server = await serveTtrpc({
        socketPath: upstream,
        services: [bindService(Events, { forward })],
        onFailure: () => undefined,
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

test("events reach a process that comes late, in order, though their shim was answered and is gone", async () => {
  await using stand = await buildStand();
  const client = await stand.connect();
  await Promise.all(["/a/1", "/a/2", "/a/3"].map((topic) => tell(client, topic)));
  client.close();
  const got: string[] = [];
  await stand.serve((topic) => {
    got.push(topic);
  });
  await until(
    () => got.length === 3,
    () => `got ${got.join(" ")}`,
  );
  assert.deepEqual(got, ["/a/1", "/a/2", "/a/3"]);
});

test("an event whose process dies before the answer is sent to the next one", async () => {
  await using stand = await buildStand();
  const dying = Promise.withResolvers<void>();
  const first = await stand.serve(async () => {
    dying.resolve();
    await new Promise(() => undefined);
  });
  const client = await stand.connect();
  const told = tell(client, "/b/1");
  await dying.promise;
  await first.close(0);
  const got: string[] = [];
  await stand.serve((topic) => {
    got.push(topic);
  });
  await told;
  await until(
    () => got.length > 0,
    () => "nothing is sent again",
  );
  assert.deepEqual(got, ["/b/1"]);
  client.close();
});

test("what cannot be stored now is tried again, what is wrong is told", async () => {
  await using stand = await buildStand();
  let tries = 0;
  await stand.serve((topic) => {
    tries++;
    if (topic === "wrong") {
      throw failure(ErrorKind.InvalidArgument, "no topic");
    }
    if (tries < 3) {
      throw failure(ErrorKind.Unavailable, "no NATS");
    }
  });
  const client = await stand.connect();
  await tell(client, "/c/1");
  assert.equal(tries, 3);
  await assert.rejects(
    tell(client, "wrong"),
    (error) => error instanceof FlotillaError && error.kind === ErrorKind.InvalidArgument,
  );
  assert.equal(tries, 4);
  client.close();
});

test("calls of other methods wait for an answer and end with their connection", async () => {
  await using stand = await buildStand();
  const client = await stand.connect();
  const method = { ...Events.method.forward, name: "Absent" };
  const other = client.unary(method, {});
  const closed = assert.rejects(
    other,
    (error) => error instanceof FlotillaError && error.kind === ErrorKind.Unavailable,
  );
  await tell(client, "/d/1");
  client.close();
  await closed;
  const got: string[] = [];
  await stand.serve((topic) => {
    got.push(topic);
  });
  await until(
    () => got.length > 0,
    () => "the event is not sent",
  );
  const again = await stand.connect();
  await assert.rejects(
    again.unary(method, {}),
    (error) => error instanceof FlotillaError && error.kind === ErrorKind.NotImplemented,
  );
  assert.deepEqual(got, ["/d/1"]);
  again.close();
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
