import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { newSpanId, newTraceId } from "#fleet/tracing/trace-context.ts";
import { openExporter, TraceExport } from "../../services/gateway/tracing/trace-export.ts";
import { makeCertificate, makeSignedCertificate } from "../kit/certificates.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";
import { type GrpcTraceCollector, startGrpcTraceCollector } from "../kit/trace-collector.ts";

/** Sends one span, as the environment says. @returns What the log was told. */
async function send(environment: Readonly<Record<string, string>>): Promise<string[]> {
  const warnings: string[] = [];
  const log = { warn: ({ err }: { err: Error }, text: string) => warnings.push(`${text}: ${err.message}`) };
  const exporter = await openExporter({ OTEL_EXPORTER_OTLP_PROTOCOL: "grpc", ...environment });
  const traces = new TraceExport(exporter, environment, log as never);
  const nowMs = Date.now();
  const ids = { traceId: newTraceId(), spanId: newSpanId(), parentSpanId: "" };
  const times = { beganMs: nowMs, endedMs: nowMs + 1 };
  traces.add("tasks", [{ ...ids, ...times, name: "told", kind: "server", attributes: {}, failure: undefined }]);
  await traces[Symbol.asyncDispose]();
  return warnings;
}

const namesAt = ({ spans }: GrpcTraceCollector): string[] => spans.map(({ name }) => name);

test("spans go to a collector by gRPC, with the fields that the environment names, compressed if it says so", async () => {
  await using collector = await startGrpcTraceCollector();
  const environment = {
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint,
    OTEL_EXPORTER_OTLP_HEADERS: "x-team=a%20b,x-other=1",
    OTEL_EXPORTER_OTLP_TRACES_COMPRESSION: "gzip",
  };
  assert.deepEqual(await send(environment), []);
  assert.deepEqual(namesAt(collector), ["told"]);
  assert.equal(collector.spans[0]?.resource.get("service.instance.id"), "tasks");
  const [head] = collector.heads;
  assert.equal(head?.[":path"], "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
  assert.equal(head[":authority"], new URL(collector.endpoint).host);
  assert.deepEqual([head["x-team"], head["x-other"], head["grpc-encoding"]], ["a b", "1", "gzip"]);
  const plain = { OTEL_EXPORTER_OTLP_ENDPOINT: new URL(collector.endpoint).host, OTEL_EXPORTER_OTLP_INSECURE: "true" };
  assert.deepEqual(await send(plain), []);
  assert.deepEqual(namesAt(collector), ["told", "told"]);
});

test("what a collector can't take now is sent again, and what it refuses is told of", async () => {
  await using collector = await startGrpcTraceCollector();
  const environment = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint };
  collector.answers.push(14, 14);
  assert.deepEqual(await send(environment), []);
  assert.deepEqual(namesAt(collector), ["told"]);
  collector.answers.push(7);
  const [warning] = await send(environment);
  assert.match(warning ?? "", /traces could not be sent, and are lost: code 7/);
});

test("nobody who listens, and a time that is over, lose the spans and nothing else", async () => {
  const beganMs = performance.now();
  const nobody = { OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:9", OTEL_EXPORTER_OTLP_TIMEOUT: "300" };
  const [warning] = await send(nobody);
  assert.match(warning ?? "", /traces could not be sent/);
  assert.ok(performance.now() - beganMs < 2_500);
});

test("by TLS a collector is checked, and sees the certificate of the daemon", async () => {
  await using directory = await makeTemporaryDirectory("trace-grpc");
  const authority = await makeCertificate(directory.path, "authority");
  const server = await makeCertificate(directory.path, "collector");
  const client = await makeSignedCertificate(directory.path, "daemon", authority);
  await using collector = await startGrpcTraceCollector({
    cert: readFileSync(server.certificatePath),
    key: readFileSync(server.keyPath),
    ca: readFileSync(authority.certificatePath),
    requestCert: true,
    rejectUnauthorized: true,
  });
  const environment = {
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint,
    OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE: client.certificatePath,
    OTEL_EXPORTER_OTLP_CLIENT_KEY: client.keyPath,
    OTEL_EXPORTER_OTLP_TIMEOUT: "1000",
  };
  assert.match((await send(environment))[0] ?? "", /traces could not be sent/, "a collector that nobody vouches for");
  assert.deepEqual(await send({ ...environment, OTEL_EXPORTER_OTLP_CERTIFICATE: server.certificatePath }), []);
  assert.deepEqual(namesAt(collector), ["told"]);
});

test("settings that make no sense are refused", async () => {
  const refused = async (environment: Readonly<Record<string, string>>, expected: RegExp): Promise<void> =>
    assert.rejects(send(environment), expected);
  await refused({ OTEL_EXPORTER_OTLP_ENDPOINT: "ftp://x" }, /neither http, https nor unix/);
  await refused({ OTEL_EXPORTER_OTLP_ENDPOINT: "http://x", OTEL_EXPORTER_OTLP_TIMEOUT: "soon" }, /no number/);
  await refused({ OTEL_EXPORTER_OTLP_ENDPOINT: "http://x", OTEL_EXPORTER_OTLP_COMPRESSION: "zstd" }, /neither gzip/);
  await refused({ OTEL_EXPORTER_OTLP_ENDPOINT: "https://x", OTEL_EXPORTER_OTLP_CERTIFICATE: "/no/file" }, /ENOENT/);
});
