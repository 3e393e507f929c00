import assert from "node:assert/strict";
import test from "node:test";
import { Code } from "@connectrpc/connect";
import { checkExporter, wantsTraces, whyNotTraced } from "./open-tracer.ts";
import { formatTraceparent, readTraceContext } from "./trace-context.ts";
import { followOnly, Tracer } from "./tracer.ts";

const traceId = "4bf92f3577b34da6a3ce929d0e0e4736";
const traceparent = `00-${traceId}-00f067aa0ba902b7-01`;
const fieldsOf = (fields: Readonly<Record<string, string>>) => ({ find: (name: string) => fields[name] });

test("a traceparent is read as the specification says, and nonsense as none", () => {
  const context = readTraceContext(fieldsOf({ traceparent, tracestate: "a=b" }).find);
  assert.equal(context?.traceId, traceId);
  assert.equal(context?.isSampled, true);
  assert.deepEqual(context?.carried, [["tracestate", "a=b"]]);
  assert.equal(context === undefined ? "" : formatTraceparent(context), traceparent);
  assert.equal(readTraceContext(fieldsOf({ traceparent: `cc${traceparent.slice(2)}-more` }).find)?.traceId, traceId);
  for (const wrong of [
    "",
    "x",
    `ff${traceparent.slice(2)}`,
    traceparent.replace(traceId, "0".repeat(32)),
    `${traceparent}\n`,
  ]) {
    assert.equal(readTraceContext(fieldsOf({ traceparent: wrong }).find), undefined, wrong);
  }
});

test("what a handler calls stands below its call, and what nobody wants traced is not", async () => {
  const tracer = new Tracer(followOnly);
  const { start } = tracer.observer;
  const answered = start?.("server", "/a.B/C", fieldsOf({ traceparent, tracestate: "a=b" }));
  const made = answered?.run?.(() => start?.("client", "/d.E/F", fieldsOf({})));
  const sent = new Map(made?.fields);
  made?.end(0 as Code, 0);
  answered?.end(Code.NotFound, 0);
  assert.equal(start?.("client", "/d.E/F", fieldsOf({})), undefined, "outside of calls");
  assert.equal(start?.("server", "/a.B/C", fieldsOf({})), undefined, "no trace begins here");
  assert.equal(start?.("server", "/a.B/C", fieldsOf({ traceparent: traceparent.replace(/01$/, "00") })), undefined);
  const [client, server] = await tracer.take(AbortSignal.timeout(1_000));
  assert.equal(server?.parentSpanId, "00f067aa0ba902b7");
  assert.equal(server?.name, "a.B/C");
  assert.equal(server?.failure, "code 5");
  assert.equal(client?.parentSpanId, server?.spanId);
  assert.equal(client?.failure, undefined);
  assert.equal(sent.get("traceparent"), `00-${traceId}-${client?.spanId}-01`);
  assert.equal(sent.get("tracestate"), "a=b");
});

test("what nobody fetches is bounded", async () => {
  const tracer = new Tracer(() => true);
  for (let count = 0; count < 9_000; count += 1) {
    tracer.observer.start?.("server", "/a.B/C", fieldsOf({}))?.end(0 as Code, 0);
  }
  assert.equal(tracer.lost, 9_000 - 8_192);
  assert.equal((await tracer.take(AbortSignal.timeout(1_000))).length, 512);
});

test("the environment says whether there are traces, in containerd's words", () => {
  const placed = { OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:4318" };
  assert.equal(whyNotTraced({}), "tracing endpoint not configured");
  assert.equal(whyNotTraced(placed), undefined);
  assert.equal(
    whyNotTraced({ ...placed, OTEL_SDK_DISABLED: "true" }),
    "tracing disabled by env OTEL_SDK_DISABLED=true",
  );
  assert.throws(() => whyNotTraced({ OTEL_SDK_DISABLED: "perhaps" }), /invalid value for OTEL_SDK_DISABLED/);
  assert.throws(
    () => checkExporter({ OTEL_TRACES_EXPORTER: "zipkin" }),
    /unsupported traces exporter "zipkin": invalid argument/,
  );
  assert.throws(
    () => checkExporter({ OTEL_EXPORTER_OTLP_PROTOCOL: "http/json" }),
    /OpenTelemetry protocol "http\/json" : not implemented/,
  );
  assert.doesNotThrow(() => checkExporter({ OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" }));
  assert.equal(wantsTraces({ ...placed, OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" }), true);
  assert.equal(wantsTraces({ ...placed, OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf" }), true);
  assert.equal(wantsTraces({ ...placed, OTEL_EXPORTER_OTLP_PROTOCOL: "http/json" }), false);
});
