import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import http from "node:http";
import { after, before, test } from "node:test";
import { createClient } from "@connectrpc/connect";
import { Containers } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import { Introspection } from "#gen/containerd/services/introspection/v1/introspection_pb.ts";
import { Snapshots } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import { Tasks } from "#gen/containerd/services/tasks/v1/tasks_pb.ts";
import { type Daemon, startFlotilla } from "../kit/daemon.ts";
import { busyboxImage } from "../kit/image.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { until } from "../kit/processes.ts";
import {
  type CollectedSpan,
  startGrpcTraceCollector,
  startTraceCollector,
  type TraceCollector,
} from "../kit/trace-collector.ts";

let leaks: LeakSnapshot;
let collector: TraceCollector;
let daemon: Daemon;

before(async () => {
  leaks = await snapshotLeaks();
  collector = await startTraceCollector();
  daemon = await startFlotilla({
    config: '[debug]\nlevel = "debug"\nformat = "json"\nlog_trace_id = true\n',
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint, OTEL_SERVICE_NAME: "flotilla-test" },
  });
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await collector?.[Symbol.asyncDispose]();
  await assertNoLeaks(leaks);
});

interface ClientSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** A span of a client, within which it makes its calls. */
function beginSpan(flags = "01"): ClientSpan {
  const traceId = randomBytes(16).toString("hex");
  const spanId = randomBytes(8).toString("hex");
  const headers = { "containerd-namespace": daemon.namespace, traceparent: `00-${traceId}-${spanId}-${flags}` };
  return { traceId, spanId, headers };
}

function spansOf({ traceId }: Pick<ClientSpan, "traceId">): CollectedSpan[] {
  return collector.spans.filter((span) => span.traceId === traceId);
}

function processOf({ resource }: CollectedSpan): string | undefined {
  return resource.get("service.instance.id");
}

async function collected(trace: Pick<ClientSpan, "traceId">, ...names: string[]): Promise<CollectedSpan[]> {
  await until(
    () => names.every((name) => spansOf(trace).some((span) => span.name === name)),
    () =>
      `of ${names.join(", ")} there are ${spansOf(trace)
        .map(({ name }) => name)
        .join(", ")}`,
    15_000,
  );
  return spansOf(trace);
}

test("a container that is created, started and waited for is one tree, from the client through all processes to the shim", async () => {
  const image = await busyboxImage();
  assert.equal((await daemon.ctr("images", "import", image.tar)).exitCode, 0, daemon.log());
  assert.equal((await daemon.ctr("containers", "create", image.name, "traced", "true")).exitCode, 0, daemon.log());
  const client = beginSpan();
  const options = { headers: client.headers };
  const tasks = createClient(Tasks, daemon.transport);
  const snapshots = createClient(Snapshots, daemon.transport);
  const { mounts } = await snapshots.mounts({ snapshotter: "overlayfs", key: "traced" }, options);
  await tasks.create({ containerId: "traced", rootfs: mounts }, options);
  const exited = tasks.wait({ containerId: "traced" }, options);
  await tasks.start({ containerId: "traced" }, options);
  await exited;
  await tasks.delete({ containerId: "traced" }, options);

  const rpc = (method: string): string => `containerd.services.tasks.v1.Tasks/${method}`;
  const spans = await collected(client, rpc("Create"), rpc("Start"), rpc("Wait"), rpc("Delete"));
  const byId = new Map(spans.map((span) => [span.spanId, span]));
  for (const { name, parentSpanId } of spans) {
    assert.ok(parentSpanId === client.spanId || byId.has(parentSpanId), `${name} hangs in the tree`);
  }
  const [passedOn] = spans.filter((span) => span.name === rpc("Create") && processOf(span) === "gateway");
  assert.equal(passedOn?.parentSpanId, client.spanId);
  const answered = spans.find((span) => span.name === rpc("Create") && processOf(span) === "tasks");
  assert.equal(answered?.parentSpanId, passedOn?.spanId);
  const asked = spans.find(
    (span) => processOf(span) === "tasks" && span.kind === 3 && span.name.endsWith("Containers/Get"),
  );
  const told = spans.find((span) => processOf(span) === "metadata" && span.name.endsWith("Containers/Get"));
  assert.ok(asked !== undefined && told?.parentSpanId === asked.spanId, "from tasks to metadata");
  const shim = spans.filter(
    (span) => processOf(span) === "tasks" && /^containerd\.task\.v[23]\.Task\//.test(span.name),
  );
  assert.ok(shim.some(({ name }) => name.endsWith("/Create")) && shim.some(({ name }) => name.endsWith("/Start")));
  assert.equal(answered?.resource.get("service.name"), "flotilla-test");
  assert.equal(answered?.attributes.get("rpc.grpc.status_code"), "0");
});

test("the start is one trace: each plugin and each socket of every process", async () => {
  const root = collector.spans.find(({ name }) => name === "start");
  assert.ok(root !== undefined);
  const spans = spansOf(root);
  assert.ok(spans.every((span) => span === root || span.parentSpanId === root.spanId));
  const plugins = spans.filter(({ name }) => name === "plugin.init").map(({ attributes }) => attributes.get("plugin"));
  for (const plugin of [
    "io.containerd.metadata.v1.bolt",
    "io.containerd.content.v1.content",
    "io.containerd.snapshotter.v1.overlayfs",
    "io.containerd.runtime.v2.task",
    "io.containerd.grpc.v1.events",
    "io.containerd.grpc.v1.version",
  ]) {
    assert.ok(plugins.includes(plugin), plugin);
  }
  const listening = spans.filter(({ name }) => name === "listen").map(processOf);
  assert.deepEqual(
    ["gateway", "events", "metadata", "content", "snapshots", "tasks"].filter((name) => !listening.includes(name)),
    [],
  );
});

test("a failed call is told of as one, and the log names its trace", async () => {
  const client = beginSpan();
  const containers = createClient(Containers, daemon.transport);
  await assert.rejects(containers.get({ id: "nobody" }, { headers: client.headers }));
  const spans = await collected(client, "containerd.services.containers.v1.Containers/Get");
  assert.ok(spans.every((span) => span.isFailed && span.attributes.get("rpc.grpc.status_code") === "5"));
  const entry = daemon
    .log()
    .split("\n")
    .find((line) => line.includes('"call failed"') && line.includes(client.traceId));
  assert.equal((JSON.parse(entry ?? "{}") as { trace_id?: string }).trace_id, client.traceId);
});

test("Connect over HTTP/1.1 is traced as well; what a client does not want traced is not", async () => {
  const [wanted, unwanted] = [beginSpan(), beginSpan("00")];
  for (const { headers } of [unwanted, wanted]) {
    const request = http.request({
      socketPath: daemon.address,
      path: "/containerd.services.images.v1.Images/List",
      method: "POST",
      headers: { ...headers, "content-type": "application/json" },
      agent: false,
    });
    request.end("{}");
    const [response] = (await once(request, "response")) as [http.IncomingMessage];
    response.resume();
    assert.equal(response.statusCode, 200);
  }
  await until(
    () => spansOf(wanted).length >= 2,
    () => `there are ${spansOf(wanted).length}`,
    15_000,
  );
  const [gateway, metadata] = ["gateway", "metadata"].map((name) =>
    spansOf(wanted).find((span) => processOf(span) === name),
  );
  assert.equal(gateway?.parentSpanId, wanted.spanId);
  assert.equal(metadata?.parentSpanId, gateway?.spanId);
  assert.deepEqual(spansOf(unwanted), []);
});

test("ctr plugins ls shows the plugins of tracing", async () => {
  const { stdout } = await daemon.ctr("plugins", "ls");
  assert.match(stdout, /io\.containerd\.tracing\.processor\.v1 +otlp +\S+ +ok/);
  assert.match(stdout, /io\.containerd\.internal\.v1 +tracing +\S+ +ok/);
});

test("traces go by gRPC where the environment says so, and settings of traces in files are told to be deprecated", async () => {
  await using grpc = await startGrpcTraceCollector();
  await using traced = await startFlotilla({
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: grpc.endpoint, OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" },
    config: `[plugins."io.containerd.tracing.processor.v1.otlp"]
endpoint = "elsewhere"
[plugins."io.containerd.internal.v1.tracing"]
sampling_ratio = 0.5
`,
  });
  const processes = (): Set<string | undefined> => new Set(grpc.spans.map(processOf));
  await until(
    () => ["gateway", "metadata", "content", "snapshots", "tasks"].every((name) => processes().has(name)),
    () => `spans have come of ${[...processes()].join(", ")}`,
  );
  const { deprecations } = await createClient(Introspection, traced.transport).server({});
  const told = deprecations.map(({ id }) => id).filter((id) => id.includes("tracing"));
  assert.deepEqual(told.toSorted(), [
    "io.containerd.deprecation/tracing-processor-config",
    "io.containerd.deprecation/tracing-service-config",
  ]);
});
