import assert from "node:assert/strict";
import http from "node:http";
import test from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { type CallId, callHeader } from "#wire/call-id.ts";
import { connectRpc } from "#wire/client.ts";
import { type EchoClient, echoClient, echoPath, openEchoClient } from "../kit/echo-service.ts";
import { goaway, type RawConnection, RawServer, Type } from "../kit/raw-http2.ts";
import { buildRelayStand, type RelayStand, serveEcho } from "../kit/relay-stand.ts";

const request = { value: Buffer.from("once") };

/** The two that make calls again: the relay for clients, and the clients of the fleet for themselves. */
const callers: readonly (readonly [name: string, open: (stand: RelayStand) => EchoClient & Disposable])[] = [
  ["the relay", (stand) => openEchoClient(stand.socketPath)],
  [
    "a client of the fleet",
    (stand) => {
      const connection = connectRpc(stand.servicePath, { keepsCalls: true });
      return Object.assign(echoClient(connection.transport), { [Symbol.dispose]: () => connection.close() });
    },
  ],
];

for (const [name, open] of callers) {
  test(`${name} makes a call that changes something again when its process dies, under the same id`, async () => {
    await using stand = await buildRelayStand();
    using client = open(stand);
    const tries: CallId[] = [];
    const seen = (id: CallId | undefined): void => {
      assert.ok(id !== undefined);
      tries.push(id);
    };
    const dying = await serveEcho(stand, {
      change: async (_request, call) => {
        seen(call.id);
        if (tries.length === 2) {
          void dying[Symbol.asyncDispose]();
          await new Promise(() => undefined);
        }
        return request;
      },
    });
    await client.change(request);
    const answer = client.change(request);
    while (tries.length < 2) {
      await new Promise(setImmediate);
    }
    await dying[Symbol.asyncDispose]();
    await using next = await serveEcho(stand, {
      change: ({ value }, call) => {
        seen(call.id);
        return { value };
      },
    });
    assert.deepEqual(Buffer.from((await answer).value), request.value);
    await client.change(request);
    assert.ok(next);
    const [first, second, repeated, last] = tries;
    assert.equal(repeated?.id, second?.id);
    assert.equal(new Set([first, second, last].map((id) => id?.id)).size, 3);
    assert.ok((repeated?.repeatedAfterMs ?? -1) >= 0);
    assert.deepEqual(
      [first, second, last].map((id) => id?.repeatedAfterMs),
      [undefined, undefined, undefined],
    );
  });

  test(`${name} does not make it again when the process may live on`, async () => {
    await using stand = await buildRelayStand();
    await using server = await RawServer.listen(stand.servicePath);
    using client = open(stand);
    const answer = client.change(request);
    const service = await server.accept();
    await service.nextOf(Type.HEADERS, 1);
    await service.roundTrip();
    const protocolError = 1;
    service.send(goaway(1, protocolError));
    service.close();
    await assert.rejects(
      answer,
      (error) =>
        isFailure(error, ErrorKind.Unavailable) || (error instanceof ConnectError && error.code === Code.Unavailable),
    );
  });
}

test("a plugin of somebody else, which keeps no calls, is asked once", async () => {
  await using stand = await buildRelayStand();
  await using server = await RawServer.listen(stand.servicePath);
  const connection = connectRpc(stand.servicePath);
  const answer = echoClient(connection.transport).change(request);
  const plugin = await server.accept();
  await plugin.nextOf(Type.HEADERS, 1);
  await plugin.roundTrip();
  plugin.close();
  await assert.rejects(answer, (error) => isFailure(error, ErrorKind.Unavailable));
  connection.close();
});

test("which call it is, a client does not say", async () => {
  await using stand = await buildRelayStand({ heldMsMax: 500 });
  const forged = { headers: { [callHeader]: "somebody-else;5" } };
  let seen: CallId | undefined;
  {
    await using service = await serveEcho(stand, {
      change: ({ value }, call) => {
        seen = call.id;
        return { value };
      },
    });
    using client = openEchoClient(stand.socketPath);
    await client.change(request, forged);
    assert.ok(service);
  }
  assert.equal(seen?.repeatedAfterMs, undefined);
  assert.ok(!seen?.id.includes("somebody"));
  await using server = await RawServer.listen(stand.servicePath);
  const answer = fetchHttp1(stand.socketPath, forged.headers);
  const service = await server.accept();
  const block = async (connection: RawConnection): Promise<string> =>
    (await connection.nextOf(Type.HEADERS)).payload.toString("latin1");
  assert.ok(!(await block(service)).includes(callHeader));
  await service.roundTrip();
  service.close();
  assert.match(await block(await server.accept()), new RegExp(`${callHeader}.[0-9a-z]+-[0-9a-z]+-1;\\d+$`));
  server.kill();
  await answer;
});

async function fetchHttp1(socketPath: string, headers: Record<string, string>): Promise<void> {
  await new Promise<void>((resolve) => {
    const outgoing = http.request(
      {
        socketPath,
        path: echoPath("change"),
        method: "POST",
        headers: { ...headers, "content-type": "application/json" },
      },
      (response) => response.resume().on("end", resolve),
    );
    outgoing.on("error", () => resolve());
    outgoing.end('"AA=="');
  });
}
