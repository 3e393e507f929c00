import assert from "node:assert/strict";
import test from "node:test";
import { Tracer } from "#fleet/tracing/tracer.ts";
import { RelayCounts } from "../../services/gateway/relay/relay-counts.ts";
import { echoPath, openEchoClient, plainEcho } from "../kit/echo-service.ts";
import { until } from "../kit/processes.ts";
import { grpcRequest, headers, RawConnection, RawServer, Type } from "../kit/raw-http2.ts";
import { buildRelayStand, serveEcho } from "../kit/relay-stand.ts";

test("calls that wait for a process are counted once each, and those that only wait for a connection are not", async () => {
  const counts = new RelayCounts();
  await using stand = await buildRelayStand({ counts });
  using client = openEchoClient(stand.socketPath);
  const calls = [client.unary({ value: Buffer.of(1) }), client.unary({ value: Buffer.of(2) })];
  await until(
    () => counts.held === 2,
    () => `${counts.held} are held`,
    5_000,
  );
  await using server = await serveEcho(stand);
  void server;
  await Promise.all(calls);
  await client.unary({ value: Buffer.of(3) });
  using other = openEchoClient(stand.socketPath);
  await other.unary({ value: Buffer.of(4) });
  assert.equal(counts.held, 2);
  assert.equal(counts.replayed, 0);
  assert.equal(counts.connections, 2);
});

test("calls that are sent again, and those that are refused, are counted by their reason", async () => {
  const counts = new RelayCounts();
  await using stand = await buildRelayStand({ counts, heldMsMax: 300 });
  const client = await RawConnection.open(stand.socketPath);
  {
    await using server = await RawServer.listen(stand.servicePath);
    client.send(headers(1, grpcRequest(echoPath("repeat")), { end: true }));
    client.send(headers(3, grpcRequest(echoPath("unary")), { end: true }));
    const service = await server.accept();
    await service.nextOf(Type.HEADERS, 3);
    await service.roundTrip();
    service.close();
  }
  await client.nextOf(Type.HEADERS, 3);
  assert.equal(counts.replayed, 1, "the one without side effects");
  assert.equal(counts.refusedUnavailable, 1, "the one that may have done something");
  await client.nextOf(Type.HEADERS, 1);
  assert.equal(counts.refusedUnavailable, 2, "nobody has come back for the first");
  client.send(headers(5, grpcRequest("/no.such/Method"), { end: true }));
  await client.nextOf(Type.HEADERS, 5);
  assert.equal(counts.refusedUnknown, 1);
  client.close();
});

test("a call that is traced goes on with the place of the relay in its trace, all else as it came", async () => {
  const traceId = "4bf92f3577b34da6a3ce929d0e0e4736";
  const tracer = new Tracer(() => true);
  await using stand = await buildRelayStand({ observer: tracer.observer });
  const seen: (string | undefined)[] = [];
  await using server = await serveEcho(stand, {
    ...plainEcho,
    unary: (request, call) => {
      seen.push(...["traceparent", "x-other"].map((name) => call.header(name)));
      return { value: request.value };
    },
  });
  void server;
  using client = openEchoClient(stand.socketPath);
  const sent = { traceparent: `00-${traceId}-00f067aa0ba902b7-01`, "x-other": "kept" };
  await client.unary({ value: Buffer.of(1) }, { headers: sent });
  const [span] = await tracer.take(AbortSignal.timeout(5_000));
  assert.equal(span?.parentSpanId, "00f067aa0ba902b7");
  assert.deepEqual(seen, [`00-${traceId}-${span?.spanId}-01`, "kept"]);
});
