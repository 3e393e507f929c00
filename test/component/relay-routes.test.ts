import assert from "node:assert/strict";
import test from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { serveRpc } from "#wire/server.ts";
import { bindEcho, echoRoutes, openEchoClient, plainEcho } from "../kit/echo-service.ts";
import { listenRelay } from "../kit/relay-stand.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";

test("methods may come and go while the relay runs, on connections that are open already", async () => {
  await using directory = await makeTemporaryDirectory("routes");
  await using resources = new AsyncDisposableStack();
  const [front, first, second] = ["front", "first", "second"].map((name) => `${directory.path}/${name}.sock`);
  assert.ok(front !== undefined && first !== undefined && second !== undefined);
  for (const [socketPath, answer] of [
    [first, 1],
    [second, 2],
  ] as const) {
    const server = await serveRpc({
      socketPath,
      services: [bindEcho({ ...plainEcho, unary: () => ({ value: Uint8Array.of(answer) }) })],
    });
    resources.defer(() => server.close(0));
  }
  const routes = new Map<string, { upstream: string; repeatable: boolean }>();
  const relay = await listenRelay({ socketPath: front, routes, heldMsMax: 2_000, socketOf: (upstream) => upstream });
  resources.defer(() => relay.close(0));
  const client = resources.use(openEchoClient(front));
  const isUnknown = (error: unknown): boolean => error instanceof ConnectError && error.code === Code.Unimplemented;

  await assert.rejects(client.unary({ value: new Uint8Array() }), isUnknown);
  for (const [upstream, answer] of [
    [first, 1],
    [second, 2],
  ] as const) {
    for (const [path, method] of echoRoutes(upstream)) {
      routes.set(path, method);
    }
    const { value } = await client.unary({ value: new Uint8Array() });
    assert.deepEqual([...value], [answer]);
  }
  routes.clear();
  await assert.rejects(client.unary({ value: new Uint8Array() }), isUnknown);
});
