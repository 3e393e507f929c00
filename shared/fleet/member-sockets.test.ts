import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { createClient } from "@connectrpc/connect";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { Version } from "#gen/containerd/services/version/v1/version_pb.ts";
import { Blobs } from "#gen/flotilla/blobs/v1/blobs_pb.ts";
import { Member } from "#gen/flotilla/fleet/v1/fleet_pb.ts";
import { connectRpc, type RpcConnection } from "#wire/client.ts";
import { bindService } from "#wire/handler.ts";
import type { Logger } from "./log.ts";
import { serveMember } from "./member-sockets.ts";
import { privateSocketOf, publicSocketOf } from "./process-name.ts";
import { callersOf } from "./rights.ts";
import type { FleetUsers } from "./users.ts";

const ownUser = process.geteuid?.() ?? 0;

interface Rig {
  readonly state: string;
  readonly warnings: object[];
  readonly connect: (path: string) => RpcConnection;
}

/** The content process with a public service, a private one, and one that is its own. */
async function serveContent(context: TestContext, uidOf: FleetUsers["uidOf"]): Promise<Rig> {
  const state = await mkdtemp(join(tmpdir(), "flotilla-member-"));
  context.after(() => rm(state, { recursive: true, force: true }));
  const warnings: object[] = [];
  const server = await serveMember({
    state,
    process: "content",
    services: [
      bindService(Version, { version: () => ({ version: "v1" }) }),
      bindService(Blobs, { removeBlobs: () => ({}) }),
    ],
    ownServices: [bindService(Member, { describe: () => ({ plugins: [] }) })],
    log: { warn: (fields: object) => warnings.push(fields) } as unknown as Logger,
    observer: {},
    users: { areSeparate: true, uidOf, gid: undefined },
  });
  context.after(() => server.close(0));
  return {
    state,
    warnings,
    connect: (path) => {
      const connection = connectRpc(path);
      context.after(() => connection.close());
      return connection;
    },
  };
}

test("public services stand on both sockets, private ones on the private socket alone", async (context) => {
  const { state, connect, warnings } = await serveContent(context, () => ownUser);
  const clients = connect(publicSocketOf(state, "content")).transport;
  const peers = connect(privateSocketOf(state, "content")).transport;
  for (const transport of [clients, peers]) {
    assert.equal((await createClient(Version, transport).version({})).version, "v1");
  }
  await createClient(Blobs, peers).removeBlobs({});
  await createClient(Member, peers).describe({});
  const refused = (error: unknown): boolean => isFailure(error, ErrorKind.NotImplemented);
  await assert.rejects(createClient(Blobs, clients).removeBlobs({}), refused);
  await assert.rejects(createClient(Member, clients).describe({}), refused);
  assert.deepEqual(warnings, []);
});

test("a user that the table does not name is closed out and told of, on each socket by its own callers", async (context) => {
  // As if every process but one had a user of its own, and ours were that one's.
  for (const [own, publicly, privately] of [
    ["gateway", true, true],
    ["metadata", false, true],
    ["events", false, false],
  ] as const) {
    const { state, connect, warnings } = await serveContent(context, (name) => (name === own ? ownUser : ownUser + 1));
    for (const [path, side, isLetIn] of [
      [publicSocketOf(state, "content"), "public", publicly],
      [privateSocketOf(state, "content"), "private", privately],
    ] as const) {
      warnings.length = 0;
      if (isLetIn) {
        await createClient(Version, connect(path).transport).version({});
        assert.deepEqual(warnings, []);
      } else {
        await refusedAt(path);
        assert.deepEqual(warnings, [{ uid: ownUser, pid: process.pid, socket: side }]);
      }
    }
  }
});

async function refusedAt(path: string): Promise<void> {
  const socket = net.connect(path);
  socket.on("error", () => undefined);
  let received = 0;
  socket.on("data", (data) => {
    received += data.length;
  });
  await once(socket, "close", { signal: AbortSignal.timeout(5_000) });
  assert.equal(received, 0, "nothing is said to who is not let in");
}

test("only the gateway may reach public sockets; peers reach what the table says", () => {
  assert.deepEqual(callersOf("content", "public"), ["gateway"]);
  assert.deepEqual(callersOf("content", "private"), ["gateway", "metadata", "snapshots", "tasks", "transfer", "cri"]);
  assert.deepEqual(callersOf("gateway", "private"), ["gateway", "cri"]);
});
