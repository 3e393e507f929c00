import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import net from "node:net";
import test from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { ErrorKind, failure } from "#base/errors.ts";
import { type EchoHandlers, echoPath } from "../kit/echo-service.ts";
import { RawServer, Type } from "../kit/raw-http2.ts";
import { buildRelayStand, type RelayStand, serveEcho } from "../kit/relay-stand.ts";

const hello = '"aGVsbG8="';

interface Answer {
  readonly status: number | undefined;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: string;
}

/** Makes a call of the Connect protocol in JSON. */
async function call(
  { socketPath }: RelayStand,
  method: keyof EchoHandlers,
  options: { readonly body?: string; readonly headers?: http.OutgoingHttpHeaders; readonly agent?: http.Agent } = {},
): Promise<Answer> {
  const request = http.request({
    socketPath,
    path: echoPath(method),
    method: "POST",
    headers: { "content-type": "application/json", ...options.headers },
    ...(options.agent === undefined ? {} : { agent: options.agent }),
  });
  request.end(options.body ?? hello);
  const [response] = (await once(request, "response")) as [http.IncomingMessage];
  return {
    status: response.statusCode,
    headers: response.headers,
    body: Buffer.concat(await response.toArray()).toString(),
  };
}

test("headers pass, except those of the connection; errors keep their status", async () => {
  await using stand = await buildRelayStand();
  const seen: (string | undefined)[] = [];
  await using server = await serveEcho(stand, {
    unary: (_request, received) => {
      seen.push(...["containerd-namespace", "x-hop", "te", "keep-alive"].map((name) => received.header(name)));
      throw failure(ErrorKind.NotFound, "image");
    },
  });
  void server;
  const answer = await call(stand, "unary", {
    headers: {
      "containerd-namespace": "ns",
      connection: "keep-alive, x-hop",
      "x-hop": "1",
      te: "trailers",
      "keep-alive": "5",
    },
  });
  assert.deepEqual(seen, ["ns", undefined, undefined, undefined]);
  assert.equal(answer.status, 404);
  assert.deepEqual(JSON.parse(answer.body), { code: "not_found", message: "image: not found" });
});

test("many calls on one connection, one behind the other", async () => {
  await using stand = await buildRelayStand();
  await using server = await serveEcho(stand);
  void server;
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const sockets = new Set<net.Socket>();
  agent.on("free", (socket: net.Socket) => sockets.add(socket));
  const answers = await Promise.all(Array.from({ length: 20 }, () => call(stand, "unary", { agent })));
  assert.deepEqual(
    answers.map(({ body }) => body),
    Array(20).fill(hello),
  );
  assert.equal(sockets.size, 1);
  agent.destroy();
});

test("large bodies pass both ways, with and without a length", async () => {
  await using stand = await buildRelayStand();
  await using server = await serveEcho(stand);
  void server;
  const body = JSON.stringify(Buffer.alloc(4_000_000, "x").toString("base64"));
  for (const headers of [{ "content-length": body.length }, { "transfer-encoding": "chunked" }]) {
    assert.equal((await call(stand, "unary", { body, headers })).body, body);
    assert.equal((await call(stand, "repeat", { body, headers })).body, body);
  }
});

test("a stream's messages come as they are sent", async () => {
  await using stand = await buildRelayStand();
  const more = Promise.withResolvers<void>();
  await using server = await serveEcho(stand, {
    async *download() {
      yield { value: Buffer.from("first") };
      await more.promise;
      yield { value: Buffer.from("second") };
    },
  });
  void server;
  const request = http.request({
    socketPath: stand.socketPath,
    path: echoPath("download"),
    method: "POST",
    headers: { "content-type": "application/connect+proto" },
  });
  request.end(Buffer.from("0000000000", "hex"));
  const [response] = (await once(request, "response")) as [http.IncomingMessage];
  const [first] = (await once(response, "data")) as [Buffer];
  assert.ok(first.includes("first"));
  assert.equal(first.includes("second"), false);
  more.resolve();
  assert.ok(Buffer.concat(await response.toArray()).includes("second"));
});

test("a client that goes away cancels the handler", async () => {
  await using stand = await buildRelayStand();
  const started = Promise.withResolvers<void>();
  const cancelled = Promise.withResolvers<void>();
  await using server = await serveEcho(stand, {
    unary: (_request, { signal }) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener("abort", () => {
          cancelled.resolve();
          reject(failure(ErrorKind.Canceled, "gone"));
        });
        started.resolve();
      }),
  });
  void server;
  const request = http.request({
    socketPath: stand.socketPath,
    path: echoPath("unary"),
    method: "POST",
    headers: { "content-type": "application/json" },
  });
  request.on("error", () => undefined);
  request.end(hello);
  await started.promise;
  request.destroy();
  await cancelled.promise;
});

test("a process dies before it answered; only a call without side effects is sent again", async () => {
  await using stand = await buildRelayStand();
  await using dying = await RawServer.listen(stand.servicePath);
  const repeated = call(stand, "repeat");
  const failed = call(stand, "unary");
  const upstream = await dying.accept();
  await upstream.nextOf(Type.DATA);
  await upstream.nextOf(Type.DATA);
  dying.kill();
  const { status, body } = await failed;
  assert.equal(status, 503);
  assert.equal(JSON.parse(body).code, "unavailable");
  await using server = await serveEcho(stand);
  void server;
  assert.deepEqual((await repeated).body, hello);
});

test("a client that waits for a process and gives up leaves nothing", async () => {
  await using stand = await buildRelayStand();
  const request = http.request({ socketPath: stand.socketPath, path: echoPath("unary"), method: "POST" });
  request.on("error", () => undefined);
  request.end(hello);
  await once(request, "finish");
  await delay(50);
  request.destroy();
  let calls = 0;
  await using server = await serveEcho(stand, {
    unary: ({ value }) => {
      calls += 1;
      return { value };
    },
  });
  void server;
  assert.equal((await call(stand, "unary")).body, hello);
  assert.equal(calls, 1, "the call that was given up is not made");
});

test("a stop lets a running call end and takes no new one", async () => {
  await using stand = await buildRelayStand();
  const release = Promise.withResolvers<void>();
  const started = Promise.withResolvers<void>();
  await using server = await serveEcho(stand, {
    unary: async ({ value }) => {
      started.resolve();
      await release.promise;
      return { value };
    },
  });
  void server;
  const running = call(stand, "unary");
  await started.promise;
  const closed = stand.relay.close(10_000);
  release.resolve();
  assert.equal((await running).body, hello);
  await closed;
  await assert.rejects(call(stand, "unary"));
});

test("a request whose head never ends is refused when it is too large", async () => {
  await using stand = await buildRelayStand();
  const socket = net.connect(stand.socketPath);
  socket.write(`POST / HTTP/1.1\r\nx-large: ${"v".repeat(20_000)}`);
  const answer = Buffer.concat(await socket.toArray()).toString();
  assert.match(answer, /^HTTP\/1\.1 431 /);
});
