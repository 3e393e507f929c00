import assert from "node:assert/strict";
import test from "node:test";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import type { MetricFamily } from "#fleet/metrics/family.ts";
import type { Container } from "../store/container.ts";
import { IdTable } from "../store/id-table.ts";
import type { Pod } from "../store/pod.ts";
import { CriMetrics } from "./cri-metrics.ts";
import { NriMetrics } from "./nri-metrics.ts";
import { PullMetrics } from "./pull-metrics.ts";
import { timedCalls } from "./timed-calls.ts";

function valuesOf(families: readonly MetricFamily[]): ReadonlyMap<string, number> {
  return new Map(families.flatMap(({ series, values }) => series.map((each, at) => [each, values[at] ?? -1] as const)));
}

test("what goes well is timed under containerd's names, with the runtime that it is of", async () => {
  const metrics = new CriMetrics();
  const pods = new IdTable<Pod>();
  pods.add({ id: "p", runtimeHandler: "", runtime: { type: "io.containerd.runc.v2" } } as Pod);
  const containers = new IdTable<Container>();
  containers.add({ id: "c", facts: { runtime: { name: "io.containerd.runc.v2" } } } as unknown as Container);
  const fail = (): never => {
    throw new Error("no");
  };
  const calls = {
    listPodSandbox: () => ({}),
    listContainers: () => ({}),
    removePodSandbox: () => ({}),
    createContainer: () => ({ containerId: "c" }),
    startContainer: () => Promise.resolve({}),
    stopContainer: fail,
    removeContainer: () => ({}),
  };
  const timed = timedCalls(metrics, { pods, containers }, calls) as unknown as Record<
    keyof typeof calls,
    (request: object) => unknown
  >;
  timed.listPodSandbox({});
  await timed.removePodSandbox({ podSandboxId: "p" });
  assert.deepEqual(await timed.createContainer({ podSandboxId: "p" }), { containerId: "c" });
  await timed.startContainer({ containerId: "c" });
  await assert.rejects(async () => await timed.stopContainer({ containerId: "c" }), /no/);
  await timed.removeContainer({ containerId: "gone" });
  const values = valuesOf(metrics.families());
  const label = '{runtime="io.containerd.runc.v2"}';
  assert.equal(values.get("containerd_cri_sandbox_list_seconds_count"), 1);
  assert.equal(values.get("containerd_cri_container_list_seconds_count"), 0, "there from the beginning");
  assert.equal(values.get('containerd_cri_sandbox_remove_seconds_count{runtime=""}'), 1);
  assert.equal(values.get(`containerd_cri_container_create_seconds_count${label}`), 1);
  assert.equal(values.get(`containerd_cri_container_start_seconds_count${label}`), 1);
  assert.equal(values.get(`containerd_cri_container_stop_seconds_count${label}`), undefined, "it failed");
  assert.equal(values.get(`containerd_cri_container_remove_seconds_count${label}`), undefined, "it was not there");
});

test("operations on networks are counted with their failures", async () => {
  const metrics = new CriMetrics();
  metrics.watchEvents(() => 4);
  await metrics.network("set_up_pod", () => Promise.resolve());
  await assert.rejects(metrics.network("set_up_pod", () => Promise.reject(new Error("no"))));
  const values = valuesOf(metrics.families());
  const label = '{operation_type="set_up_pod"}';
  assert.equal(values.get(`containerd_cri_network_plugin_operations_total_total${label}`), 2);
  assert.equal(values.get(`containerd_cri_network_plugin_operations_errors_total_total${label}`), 1);
  assert.equal(values.get(`containerd_cri_network_plugin_operations_duration_seconds_seconds_count${label}`), 2);
  assert.equal(values.get("containerd_cri_container_events_dropped_total"), 4);
});

test("pulls are counted by how they end, and while they run", async () => {
  const metrics = new PullMetrics();
  const running = (): number | undefined =>
    valuesOf(metrics.families()).get("containerd_cri_sandboxed_in_progress_image_pulls_total");
  await metrics.during(() => {
    assert.equal(running(), 1);
    return Promise.resolve({ sizeBytes: 1n });
  });
  await assert.rejects(metrics.during(() => Promise.reject(new Error("no"))));
  const values = valuesOf(metrics.families());
  assert.equal(running(), 0);
  assert.equal(values.get('containerd_cri_sandboxed_image_pulls_total{status="success"}'), 1);
  assert.equal(values.get('containerd_cri_sandboxed_image_pulls_total{status="failure"}'), 1);
  assert.equal(values.get("containerd_cri_sandboxed_image_pulling_throughput_count"), 1);
});

test("calls of plugins are counted by how they end, with what they want changed", () => {
  const metrics = new NriMetrics();
  metrics.watchPlugins(() => 2);
  const startedMs = performance.now();
  metrics.answered("10-one", "CreateContainer", { startedMs, answer: { update: [{}, {}], evict: [] } });
  const error = new FlotillaError(ErrorKind.InvalidArgument, "no");
  metrics.failed("10-one", "CreateContainer", { startedMs, error });
  const values = valuesOf(metrics.families());
  const labels = 'operation="CreateContainer",plugin="10-one"';
  const invocations = "containerd_nri_plugin_invocations_total";
  assert.equal(values.get(`${invocations}{error="",${labels},status="success"}`), 1);
  assert.equal(values.get(`${invocations}{error="invalid_argument",${labels},status="error"}`), 1);
  assert.equal(values.get(`containerd_nri_plugin_adjustments_total{${labels},type="update"}`), 2);
  assert.equal(values.get(`containerd_nri_plugin_latency_seconds_count{${labels}}`), 2);
  assert.equal(values.get("containerd_nri_active_plugins_total"), 2);
});
