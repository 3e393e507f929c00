import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { after, before, test } from "node:test";
import { createClient } from "@connectrpc/connect";
import { Containers } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import { Version } from "#gen/containerd/services/version/v1/version_pb.ts";
import { type Daemon, startFlotilla } from "../kit/daemon.ts";
import { busyboxImage } from "../kit/image.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { until } from "../kit/processes.ts";

let leaks: LeakSnapshot;
let port: number;
let daemon: Daemon;

async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port: found } = server.address() as net.AddressInfo;
  server.close();
  await once(server, "close");
  return found;
}

before(async () => {
  leaks = await snapshotLeaks();
  port = await freePort();
  daemon = await startFlotilla({
    config: `
[plugins."io.containerd.server.v1.metrics"]
address = "127.0.0.1:${port}"
[plugins."io.containerd.metrics.v1.grpc-prometheus"]
grpc_histogram = true
`,
  });
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await assertNoLeaks(leaks);
});

async function scrape(): Promise<Map<string, number>> {
  const response = await fetch(`http://127.0.0.1:${port}/v1/metrics`);
  assert.equal(response.status, 200);
  assert.match(response.headers.get("content-type") ?? "", /^text\/plain; version=0\.0\.4/);
  const lines = (await response.text()).split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  const values = lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.split(" ").at(-1))] as const);
  const found = new Map(values);
  assert.equal(found.size, lines.length, "no series twice");
  return found;
}

function callSeries(family: string, service: string, method: string, code = ""): string {
  return `${family}{${code}grpc_method="${method}",grpc_service="containerd.services.${service}",grpc_type="unary"}`;
}

test("calls are counted where they are answered, by every protocol, and the fleet tells of itself", async () => {
  const before = await scrape();
  await createClient(Version, daemon.transport).version({});
  await assert.rejects(
    createClient(Containers, daemon.transport).get({ id: "none" }, { headers: { "containerd-namespace": "metrics" } }),
  );
  const connect = await new Promise<string>((resolve, reject) => {
    const socket = net.connect(daemon.address, () => {
      const path = "/containerd.services.version.v1.Version/Version";
      const head = `POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n`;
      socket.end(`${head}content-length: 2\r\nconnection: close\r\n\r\n{}`);
    });
    socket.once("error", reject);
    socket.toArray().then((chunks: Buffer[]) => resolve(Buffer.concat(chunks).toString()), reject);
  });
  assert.match(connect, /^HTTP\/1\.1 200/);
  const after = await scrape();
  const rise = (series: string): number => (after.get(series) ?? Number.NaN) - (before.get(series) ?? Number.NaN);
  const version = ["version.v1.Version", "Version"] as const;
  assert.equal(rise(callSeries("grpc_server_started_total", ...version)), 2);
  assert.equal(rise(callSeries("grpc_server_handled_total", ...version, 'grpc_code="OK",')), 2);
  assert.equal(rise(callSeries("grpc_server_msg_received_total", ...version)), 2);
  assert.equal(rise(callSeries("grpc_server_msg_sent_total", ...version)), 2);
  assert.equal(rise(callSeries("grpc_server_handling_seconds_count", ...version)), 2);
  const get = ["containers.v1.Containers", "Get"] as const;
  assert.equal(rise(callSeries("grpc_server_handled_total", ...get, 'grpc_code="NotFound",')), 1);
  assert.equal([...after.keys()].filter((series) => series.startsWith("containerd_build_info_total{")).length, 1);
  for (const process of ["gateway", "events", "metadata", "content", "snapshots", "tasks"]) {
    assert.equal(after.get(`flotilla_process_up{process="${process}"}`), 1, process);
    assert.ok((after.get(`flotilla_process_resident_memory_bytes{process="${process}"}`) ?? 0) > 1e6, process);
  }
  assert.equal(
    after.get('flotilla_process_up{process="transfer"}'),
    0,
    "a process on demand is not started by a scrape",
  );
  for (const series of [
    'containerd_gc_collections_total{status="success"}',
    "containerd_gc_gc_seconds_count",
    "flotilla_outbox_events",
    "flotilla_events_lag",
    "flotilla_relay_held_calls_total",
  ]) {
    assert.ok(after.has(series), series);
  }
  assert.equal((await fetch(`http://127.0.0.1:${port}/metrics`)).status, 404);
  assert.equal((await fetch(`http://127.0.0.1:${port}/v1/metrics`, { method: "POST" })).status, 405);
});

test("a thousand scrapes under load, all answered, and counters that never go back when a process dies", async () => {
  const client = createClient(Containers, daemon.transport);
  const options = { headers: { "containerd-namespace": "metrics" } };
  const stop = new AbortController();
  const load = Array.from({ length: 16 }, async () => {
    while (!stop.signal.aborted) {
      await client.list({}, options);
    }
  });
  const series = callSeries("grpc_server_handled_total", "containers.v1.Containers", "List", 'grpc_code="OK",');
  let highest = 0;
  let scrapes = 0;
  const scrapers = Array.from({ length: 4 }, async () => {
    let last = 0;
    while (scrapes < 1_000) {
      scrapes += 1;
      if (scrapes === 500) {
        await daemon.kill9("metadata");
      }
      const seen = (await scrape()).get(series) ?? 0;
      assert.ok(seen >= last, `${seen} after ${last}`);
      last = seen;
      highest = Math.max(highest, seen);
    }
  });
  try {
    await Promise.all(scrapers);
  } finally {
    stop.abort();
    await Promise.all(load);
  }
  assert.ok(highest > 100);
  await until(
    async () => {
      const values = await scrape();
      return (
        values.get('flotilla_process_restarts_total{process="metadata"}') === 1 &&
        values.get('flotilla_process_up{process="metadata"}') === 1
      );
    },
    () => "the restart is not told of",
    10_000,
  );
});

test("containers tell what their cgroups measure", async () => {
  const image = await busyboxImage();
  assert.equal((await daemon.ctr("images", "import", image.tar)).exitCode, 0, daemon.log());
  const { exitCode, stderr } = await daemon.ctr("run", "-d", image.name, "measured", "sleep", "1000");
  assert.equal(exitCode, 0, stderr);
  const values = await scrape();
  const own = [...values.keys()].filter((series) => series.includes('container_id="measured",'));
  assert.ok(own.length > 40, `${own.length} series`);
  assert.ok(own.every((series) => series.includes(`namespace="${daemon.namespace}"`)));
  assert.ok(own.some((series) => /^container_memory_.*usage.*_bytes\{/.test(series)));
  assert.equal(values.get("flotilla_tasks"), 1);
  await daemon.ctr("tasks", "kill", "-s", "KILL", "measured");
  await daemon.ctr("tasks", "delete", "measured");
  assert.ok(![...(await scrape()).keys()].some((series) => series.includes("measured")));
});
