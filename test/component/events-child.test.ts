import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import net from "node:net";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { createClient } from "@connectrpc/connect";
import { EventLog } from "#gen/flotilla/events/v1/log_pb.ts";
import { dialNats } from "../../services/events/bus/nats.ts";
import { isRunning, killProcesses, until } from "../kit/processes.ts";
import { EventsProcess, type FleetHome, makeFleetHome } from "./events-process.ts";
import { NatsServer } from "./nats-server.ts";

async function subscriberUrl({ config }: FleetHome): Promise<URL> {
  return new URL((await readFile(`${config.root}/io.flotilla.events.v1.nats/subscriber.url`, "utf8")).trim());
}

/** Somebody who listens where nats-server should, greets as it does, lets everybody in and notes what they say. */
class Impostor implements AsyncDisposable {
  readonly #server: net.Server;
  readonly #sockets = new Set<net.Socket>();
  /** All that was said. */
  heard = "";
  /** How many have come. */
  visits = 0;

  private constructor(server: net.Server) {
    this.#server = server;
    server.on("connection", (socket) => {
      this.visits++;
      this.#sockets.add(socket);
      const greeting = { server_id: "X", version: "2.9.10", proto: 1, headers: true, max_payload: 8_388_608 };
      socket.write(`INFO ${JSON.stringify({ ...greeting, auth_required: true, nonce: "abcdefghijklmnop" })}\r\n`);
      socket.setEncoding("latin1").on("data", (text: string) => {
        this.heard += text;
        socket.write("PONG\r\n");
      });
      socket.on("error", () => undefined);
    });
  }

  /** Takes the port as soon as it is free. */
  static async take(port: number): Promise<Impostor> {
    for (;;) {
      const server = net.createServer();
      const isTaken = await new Promise<boolean>((resolve) => {
        server.once("error", () => resolve(false));
        server.listen(port, "127.0.0.1", () => resolve(true));
      });
      if (isTaken) {
        return new Impostor(server);
      }
      await delay(1);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#sockets.forEach((socket) => socket.destroy());
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

async function freePort(): Promise<number> {
  const server = net.createServer();
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const append = (events: EventsProcess, name: string): Promise<unknown> =>
  createClient(EventLog, events.transport).append({
    records: [{ messageId: name, envelope: { namespace: "child", topic: `/${name}` } }],
  });

test("who listens in place of a dead nats-server is told nothing, and the events go elsewhere", async () => {
  await using home = await makeFleetHome();
  await using events = await EventsProcess.start(home);
  await append(events, "first");
  const before = await subscriberUrl(home);
  const child = events.natsPid ?? 0;
  process.kill(events.pid, "SIGSTOP");
  await killProcesses([child]);
  await using impostor = await Impostor.take(Number(before.port));
  process.kill(events.pid, "SIGCONT");
  await append(events, "second");
  const after = await subscriberUrl(home);
  assert.notEqual(after.port, before.port);
  assert.equal(after.password, before.password);
  assert.equal(impostor.heard, "");
});

test("what an impostor gets out of a client that believes it does not open the real server", async () => {
  await using nats = await NatsServer.start();
  const { seed } = nats.address;
  const port = await freePort();
  await using impostor = await Impostor.take(port);
  const link = await dialNats({ url: `nats://127.0.0.1:${port}`, seed });
  await link.close();
  const connect = /CONNECT .*\r\n/.exec(impostor.heard)?.[0] ?? "";
  assert.match(connect, /"sig":/);
  assert.ok(!connect.includes(seed ?? "") && !/"pass"|"user"|"jwt"/.test(connect), connect);
  const real = net.connect(Number(new URL(nats.address.url).port), "127.0.0.1").setEncoding("latin1");
  let answered = "";
  real.on("data", (text: string) => {
    answered += text;
  });
  real.write(`${connect}PING\r\n`);
  await until(
    () => real.destroyed || answered.includes("PONG"),
    () => `the server neither lets in nor refuses: ${answered}`,
  );
  real.destroy();
  assert.match(answered, /-ERR 'Authorization Violation'/);
});

test("a client that is to look before it signs says nothing when it does not like what it sees", async () => {
  const port = await freePort();
  await using impostor = await Impostor.take(port);
  const beforeSigning = (): never => {
    throw new Error("somebody else listens there");
  };
  const seed = "SUALKYJ7ZIGMZOIM3IPAAYXW5SFSDFNYMQIQAVONUNFPPNFER4F42F4EUU";
  await assert.rejects(dialNats({ url: `nats://127.0.0.1:${port}`, seed, beforeSigning }), /no connection to NATS/);
  assert.equal(impostor.visits, 1);
  assert.equal(impostor.heard, "");
});

test("nats-server dies with the process that runs it, and its successor takes the same port", async () => {
  await using home = await makeFleetHome();
  await using events = await EventsProcess.start(home);
  const before = await subscriberUrl(home);
  for (let kills = 0; kills < 3; kills++) {
    const orphan = events.natsPid ?? 0;
    assert.ok(orphan > 0);
    await events.kill();
    await events.restart();
    await until(
      () => !isRunning(orphan),
      () => `nats-server ${orphan} still runs`,
    );
    await append(events, `after-${kills}`);
  }
  assert.equal((await subscriberUrl(home)).href, before.href);
});

test("nats-server ends with an orderly stop", async () => {
  await using home = await makeFleetHome();
  await using events = await EventsProcess.start(home);
  const child = events.natsPid ?? 0;
  assert.equal(await events.stop(), 0, events.log);
  assert.equal(isRunning(child), false);
});

test("a process whose nats-server cannot start does not start either, and says why", async () => {
  await using home = await makeFleetHome();
  const root = `${home.config.root}/io.flotilla.events.v1.nats`;
  await mkdir(root, { recursive: true });
  await writeFile(`${root}/jetstream`, "a file where nats-server needs a directory");
  await assert.rejects(EventsProcess.start(home), /nats-server ended during its start \(exit status 1\): unavailable/);
});
