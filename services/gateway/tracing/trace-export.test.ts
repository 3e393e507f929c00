import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import type net from "node:net";
import test from "node:test";
import type { Logger } from "#fleet/log.ts";
import { newSpanId, newTraceId } from "#fleet/tracing/trace-context.ts";
import { openExporter, TraceExport } from "./trace-export.ts";

test("a collector that takes nothing is told of once, and nothing waits for it", async () => {
  const server = http.createServer((request, response) => {
    request.resume();
    response.writeHead(400).end();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  process.env["OTEL_EXPORTER_OTLP_ENDPOINT"] = `http://127.0.0.1:${(server.address() as net.AddressInfo).port}`;
  const warnings: string[] = [];
  const log = { warn: (_fields: object, message: string) => warnings.push(message) } as unknown as Logger;
  try {
    const traces = new TraceExport(await openExporter({}), { OTEL_RESOURCE_ATTRIBUTES: "host.name=a%20b,broken" }, log);
    const nowMs = Date.now();
    const span = {
      name: "n",
      kind: "server",
      beganMs: nowMs,
      endedMs: nowMs + 1,
      attributes: {},
      failure: undefined,
    } as const;
    for (let count = 0; count < 600; count += 1) {
      traces.add("tasks", [{ ...span, traceId: newTraceId(), spanId: newSpanId(), parentSpanId: "" }]);
    }
    await traces[Symbol.asyncDispose]();
  } finally {
    delete process.env["OTEL_EXPORTER_OTLP_ENDPOINT"];
    server.closeAllConnections();
    server.close();
  }
  assert.deepEqual(warnings, ["traces could not be sent, and are lost"]);
});
