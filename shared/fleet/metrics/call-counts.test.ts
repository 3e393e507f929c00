import assert from "node:assert/strict";
import test from "node:test";
import { Code } from "@connectrpc/connect";
import { Content } from "#gen/containerd/services/content/v1/content_pb.ts";
import { bindService } from "#wire/handler.ts";
import { CallCounts, openCallCounts } from "./call-counts.ts";

const services = [bindService(Content, { info: () => ({}), read: async function* () {} })];
const info = "/containerd.services.content.v1.Content/Info";
const read = "/containerd.services.content.v1.Content/Read";
const fields = { find: () => undefined };

function valuesOf(counts: CallCounts): Map<string, number> {
  return new Map(counts.families().flatMap(({ series, values }) => series.map((each, at) => [each, values[at] ?? -1])));
}

const infoLabels = 'grpc_method="Info",grpc_service="containerd.services.content.v1.Content",grpc_type="unary"';
const readLabels = 'grpc_method="Read",grpc_service="containerd.services.content.v1.Content",grpc_type="server_stream"';

test("calls are counted by method, kind and code, with their messages", () => {
  const counts = new CallCounts(services, { hasHistogram: false });
  const { start } = counts.observer;
  const first = start?.("server", info, fields);
  first?.requestMessage(1);
  first?.responseMessage(1);
  first?.end(0 as Code, 0);
  start?.("server", info, fields)?.end(Code.NotFound, 0);
  start?.("server", read, fields)?.responseMessage(1);
  start?.("server", "/other.Service/Method", fields)?.end(0 as Code, 0);
  const values = valuesOf(counts);
  assert.equal(values.get(`grpc_server_started_total{${infoLabels}}`), 2);
  assert.equal(values.get(`grpc_server_handled_total{grpc_code="OK",${infoLabels}}`), 1);
  assert.equal(values.get(`grpc_server_handled_total{grpc_code="NotFound",${infoLabels}}`), 1);
  assert.equal(
    values.get(`grpc_server_handled_total{grpc_code="Internal",${infoLabels}}`),
    0,
    "there from the beginning",
  );
  assert.equal(values.get(`grpc_server_msg_received_total{${infoLabels}}`), 1);
  assert.equal(values.get(`grpc_server_msg_sent_total{${readLabels}}`), 1);
  assert.equal(values.get(`grpc_server_handled_total{grpc_code="OK",${readLabels}}`), 0, "under way");
  assert.ok(![...values.keys()].some((series) => series.includes("other.Service") || series.includes("seconds")));
});

test("nothing is made for a call", () => {
  const { start } = new CallCounts(services, { hasHistogram: true }).observer;
  assert.equal(start?.("server", info, fields), start?.("server", info, fields));
});

test("durations fall into buckets that hold those below them", () => {
  const counts = new CallCounts(services, { hasHistogram: true });
  const nowMs = performance.now();
  for (const agoMs of [0, 30, 700, 60_000]) {
    counts.observer.start?.("server", info, fields)?.end(0 as Code, nowMs - agoMs);
  }
  const values = valuesOf(counts);
  const bucket = (le: string): number | undefined =>
    values.get(`grpc_server_handling_seconds_bucket{${infoLabels},le="${le}"}`);
  assert.deepEqual(["0.025", "0.05", "0.5", "1", "10", "+Inf"].map(bucket), [1, 2, 2, 3, 3, 4]);
  assert.equal(values.get(`grpc_server_handling_seconds_count{${infoLabels}}`), 4);
  assert.ok((values.get(`grpc_server_handling_seconds_sum{${infoLabels}}`) ?? 0) >= 60.73);
});

test("without an address for metrics nothing is counted", () => {
  assert.equal(openCallCounts({ address: "", hasHistogram: true }, services), undefined);
});
