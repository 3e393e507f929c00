import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import test from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { execa } from "execa";
import { Content } from "#gen/containerd/services/content/v1/content_pb.ts";
import { Introspection } from "#gen/containerd/services/introspection/v1/introspection_pb.ts";
import { Version } from "#gen/containerd/services/version/v1/version_pb.ts";
import { bindService } from "#wire/handler.ts";
import { serveRpc } from "#wire/server.ts";
import { until } from "../kit/processes.ts";
import { listenRelay } from "../kit/relay-stand.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";

const skip = existsSync("/usr/bin/ctr") ? false : "needs ctr";
const skipDaemon = existsSync("/usr/bin/containerd") ? skip : "needs containerd";

/** Routes of everything that `ctr` calls here, to one process. */
const routes = new Map(
  [
    "version.v1.Version/Version",
    "introspection.v1.Introspection/Server",
    "introspection.v1.Introspection/Plugins",
    "events.v1.Events/Subscribe",
    "namespaces.v1.Namespaces/Create",
    ...Content.methods.map((method) => `content.v1.Content/${method.name}`),
    "leases.v1.Leases/Create",
    "leases.v1.Leases/Delete",
  ].map((path) => [`/containerd.services.${path}`, { upstream: "daemon", repeatable: false }]),
);

/** A containerd of the test's own behind a relay. */
interface DaemonStand extends AsyncDisposable {
  readonly directory: string;
  ctr(...args: string[]): ReturnType<typeof runCtr>;
  start(): Promise<void>;
  kill(): Promise<void>;
}

function runCtr(socketPath: string, args: readonly string[]) {
  return execa("ctr", ["-a", socketPath, ...args], { encoding: "buffer", reject: false, timeout: 60_000 });
}

function startContainerd(config: string) {
  return execa("containerd", ["--config", config], { reject: false, stdio: "ignore" });
}

async function buildDaemonStand(): Promise<DaemonStand> {
  const directory = await makeTemporaryDirectory("clients");
  const front = `${directory.path}/front.sock`;
  const back = `${directory.path}/c.sock`;
  const config = `${directory.path}/config.toml`;
  await writeFile(
    config,
    `version = 2
root = "${directory.path}/root"
state = "${directory.path}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
address = "${back}"
[ttrpc]
address = "${back}.ttrpc"
`,
  );
  const relay = await listenRelay({ socketPath: front, routes, heldMsMax: 10_000, socketOf: () => back });
  let daemon: ReturnType<typeof startContainerd> | undefined;
  const stand: DaemonStand = {
    directory: directory.path,
    ctr: (...args) => runCtr(front, args),
    start: async () => {
      daemon = startContainerd(config);
      await until(
        () => existsSync(back),
        () => "containerd does not listen",
      );
    },
    kill: async () => {
      daemon?.kill("SIGKILL");
      await daemon;
    },
    [Symbol.asyncDispose]: async () => {
      await stand.kill();
      await relay.close(0);
      await directory[Symbol.asyncDispose]();
    },
  };
  return stand;
}

test("ctr and containerd, both in Go, move bulk data through the relay", { skip: skipDaemon }, async () => {
  await using stand = await buildDaemonStand();
  await stand.start();
  const blob = randomBytes(48 * 1024 * 1024);
  const digest = `sha256:${createHash("sha256").update(blob).digest("hex")}`;
  const file = `${stand.directory}/blob`;
  await writeFile(file, blob);
  const ingest = stand.ctr("content", "ingest", "--expected-digest", digest, "ref");
  const ingestInput = execa("cat", [file], { encoding: "buffer", maxBuffer: 64 * 1024 * 1024 });
  assert.ok(ingest.stdin !== null);
  ingest.stdin.end((await ingestInput).stdout);
  const ingested = await ingest;
  assert.equal(ingested.exitCode, 0, Buffer.from(ingested.stderr).toString());
  const gets = await Promise.all([stand.ctr("content", "get", digest), stand.ctr("content", "get", digest)]);
  for (const get of gets) {
    assert.equal(get.exitCode, 0, Buffer.from(get.stderr).toString());
    assert.ok(Buffer.from(get.stdout).equals(blob));
  }
});

test("ctr waits for a containerd that is killed and comes back, and its stream ends", {
  skip: skipDaemon,
}, async () => {
  await using stand = await buildDaemonStand();
  const first = stand.ctr("version");
  await delay(100);
  await stand.start();
  assert.equal((await first).exitCode, 0);
  const events = stand.ctr("events");
  let isSeen = false;
  events.stdout?.once("data", () => {
    isSeen = true;
  });
  let tries = 0;
  await until(
    async () => {
      assert.equal((await stand.ctr("namespaces", "create", `seen-${++tries}`)).exitCode, 0);
      return isSeen;
    },
    () => "ctr events shows nothing",
    30_000,
  );
  await stand.kill();
  const ended = await events;
  assert.match(Buffer.from(ended.stdout).toString(), /namespaces\/create/);
  assert.notEqual(ended.exitCode, 0);
  assert.match(Buffer.from(ended.stderr).toString(), /connection to process daemon was lost: unavailable/);
  const waiting = stand.ctr("plugins", "ls");
  await stand.start();
  const listed = await waiting;
  assert.equal(listed.exitCode, 0, Buffer.from(listed.stderr).toString());
});

test("ctr gets the answers of our own services", { skip }, async () => {
  await using cleanup = new AsyncDisposableStack();
  const directory = cleanup.use(await makeTemporaryDirectory("clients"));
  const front = `${directory.path}/front.sock`;
  const back = `${directory.path}/back.sock`;
  const relay = await listenRelay({ socketPath: front, routes, heldMsMax: 10_000, socketOf: () => back });
  cleanup.defer(() => relay.close(0));
  const blob = Buffer.alloc(3_000_000, "bytes of a blob ");
  const server = await serveRpc({
    socketPath: back,
    services: [
      bindService(Version, { version: () => ({ version: "v9.9.9", revision: "abc" }) }),
      bindService(Introspection, { server: () => ({ uuid: "11111111-2222-3333-4444-555555555555" }) }),
      bindService(Content, {
        info: ({ digest }) => ({ info: { digest, size: BigInt(blob.length) } }),
        async *read({ offset, size }) {
          const end = size === 0n ? blob.length : Number(offset + size);
          for (let at = Number(offset); at < end; at += 65_536) {
            yield { offset: BigInt(at), data: blob.subarray(at, Math.min(end, at + 65_536)) };
          }
        },
      }),
    ],
  });
  cleanup.defer(() => server.close(0));
  const version = await runCtr(front, ["version"]);
  assert.match(
    Buffer.from(version.stdout).toString(),
    /Server:\n\s+Version:\s+v9\.9\.9\n\s+Revision: abc\n\s+UUID: 11111111/,
  );
  assert.equal(version.exitCode, 0);
  const get = await runCtr(front, ["content", "get", `sha256:${"0".repeat(64)}`]);
  assert.ok(Buffer.from(get.stdout).equals(blob), Buffer.from(get.stderr).toString());
  const unknown = await runCtr(front, ["snapshots", "ls"]);
  assert.match(
    Buffer.from(unknown.stderr).toString(),
    /unknown service containerd.services.snapshots.v1.Snapshots: not implemented/,
  );
});
