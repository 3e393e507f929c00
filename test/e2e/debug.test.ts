import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import { after, before, test } from "node:test";
import { gunzipSync } from "node:zlib";
import { createClient } from "@connectrpc/connect";
import { Containers } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import { type Daemon, startFlotilla } from "../kit/daemon.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { sendSignal, until } from "../kit/processes.ts";
import { makeTemporaryDirectory, type TemporaryDirectory } from "../kit/temporary-directory.ts";

let leaks: LeakSnapshot;
let directory: TemporaryDirectory;
let socketPath: string;
let daemon: Daemon;

before(async () => {
  leaks = await snapshotLeaks();
  directory = await makeTemporaryDirectory("debug");
  socketPath = `${directory.path}/debug.sock`;
  daemon = await startFlotilla({ config: `[plugins."io.containerd.server.v1.debug"]\naddress = "${socketPath}"\n` });
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await directory?.[Symbol.asyncDispose]();
  await assertNoLeaks(leaks);
});

async function get(path: string): Promise<{ status: number | undefined; body: Buffer }> {
  const [response] = (await once(http.get({ socketPath, path, agent: false }), "response")) as [http.IncomingMessage];
  return { status: response.statusCode, body: Buffer.concat(await response.toArray()) };
}

interface Told {
  readonly process: string;
  readonly pid?: number;
  readonly calls?: readonly { readonly rpc: string; readonly ageSeconds: number }[];
  readonly handles?: Readonly<Record<string, number>>;
}

test("the state of every process, with the calls under way, is told on the debug socket and by SIGUSR1 in the log", async () => {
  await using follower = await daemon.followEvents();
  void follower;
  const rpc = "/containerd.services.events.v1.Events/Subscribe";
  const { processes } = JSON.parse((await get("/debug/vars")).body.toString()) as { processes: readonly Told[] };
  const stateOf = (name: string): Told | undefined => processes.find(({ process }) => process === name);
  for (const name of ["gateway", "events", "metadata", "content", "snapshots", "tasks"] as const) {
    assert.equal(stateOf(name)?.pid, daemon.pidOf(name), name);
    assert.ok(Object.keys(stateOf(name)?.handles ?? {}).length > 0, name);
  }
  assert.equal(stateOf("transfer")?.pid, undefined, "a process on demand is not started to be asked");
  for (const name of ["gateway", "events"]) {
    assert.ok(
      stateOf(name)?.calls?.some((call) => call.rpc === rpc),
      name,
    );
  }
  sendSignal(daemon.pidOf("gateway") ?? 0, "SIGUSR1");
  await until(
    () => ["gateway", "events", "tasks"].every((name) => daemon.log().includes(`"msg":"state of process ${name}"`)),
    () => daemon.log(),
    10_000,
  );
  assert.match(daemon.log(), /"rpc":"\/containerd\.services\.events\.v1\.Events\/Subscribe","ageSeconds"/);
  sendSignal(daemon.pidOf("content") ?? 0, "SIGUSR1");
  await until(
    () => (daemon.log().match(/"state of process content"/g) ?? []).length === 2,
    () => daemon.log(),
    10_000,
  );
  assert.ok(!daemon.log().includes("Debugger listening"));
});

test("each process gives profiles of its time and its heap, for pprof and for the tools of browsers", async () => {
  const client = createClient(Containers, daemon.transport);
  const stop = new AbortController();
  const load = (async () => {
    while (!stop.signal.aborted) {
      await client.list({}, { headers: { "containerd-namespace": "debug" } });
    }
  })();
  try {
    const pprof = await get("/debug/pprof/profile?process=metadata&seconds=1");
    assert.equal(pprof.status, 200);
    const decoded = gunzipSync(pprof.body).toString("latin1");
    assert.ok(decoded.includes("nanoseconds") && decoded.includes("metadata-main.js"), "names of functions and files");
    const v8 = await get("/debug/pprof/profile?process=gateway&seconds=0.5&format=v8");
    const profile = JSON.parse(v8.body.toString()) as { nodes: readonly unknown[]; samples: readonly number[] };
    assert.ok(profile.nodes.length > 1 && profile.samples.length > 1);
    const heap = await get("/debug/pprof/heap?process=metadata&seconds=1&format=v8");
    assert.ok("head" in (JSON.parse(heap.body.toString()) as object));
    const [first, second] = await Promise.all([
      get("/debug/pprof/profile?process=content&seconds=1"),
      get("/debug/pprof/profile?process=content&seconds=1"),
    ]);
    assert.deepEqual(
      [first.status, second.status].sort((a = 0, b = 0) => a - b),
      [200, 500],
      "one profile at a time",
    );
  } finally {
    stop.abort();
    await load;
  }
});

test("what cannot be told is said so", async () => {
  assert.equal((await get("/debug/pprof/profile?process=nobody")).status, 400);
  assert.equal((await get("/debug/pprof/profile?process=content&seconds=100000")).status, 400);
  assert.equal((await get("/debug/pprof/profile?process=content&format=svg")).status, 400);
  assert.equal((await get("/debug/pprof/mutex")).status, 404);
  assert.equal((await get("/nothing")).status, 404);
  assert.equal((await get("/debug/pprof/cmdline")).status, 200);
  assert.match((await get("/debug/pprof/")).body.toString(), /process=metadata/);
});
