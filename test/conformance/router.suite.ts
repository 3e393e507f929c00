import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import http from "node:http";
import net from "node:net";
import test from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { ErrorKind, failure } from "#base/errors.ts";
import { type RpcServer, serveRpc } from "#wire/server.ts";
import {
  bindEcho,
  downloadBlock,
  type EchoHandlers,
  echoClient,
  echoPath,
  echoRoutes,
  openEchoClient,
  plainEcho,
} from "../kit/echo-service.ts";
import {
  data,
  Flags,
  frame,
  goaway,
  grpcMessage,
  grpcRequest,
  headers,
  plainHeaders,
  RawConnection,
  type RawFrame,
  RawServer,
  Setting,
  Type,
  windowUpdate,
} from "../kit/raw-http2.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";

/** What a router is opened with. */
export interface RouterConfig {
  /** Where clients connect. */
  readonly socketPath: string;
  /** Which process answers a path, and whether a call may be sent again. */
  readonly routes: ReadonlyMap<string, { readonly upstream: string; readonly repeatable: boolean }>;
  /** The socket of a process. */
  socketOf(upstream: string): string;
  /** How long calls are held. */
  readonly heldMsMax: number;
}

/** What stands between clients and processes. */
export interface Router {
  /** Drains, and ends what takes longer. */
  close(drainMs: number): Promise<void>;
}

interface Stand extends AsyncDisposable {
  /** Socket of the router. */
  readonly socketPath: string;
  /** Socket of the only process. */
  readonly servicePath: string;
  readonly router: Router;
  serve(handlers?: EchoHandlers): Promise<RpcServer>;
}

const hello = Buffer.from("hello");
const trailersOk = { "grpc-status": "0" };
const responseHead = { ":status": "200", "content-type": "application/grpc" };

/**
 * The contract of what stands between clients and the processes of the fleet: calls of every kind and protocol arrive
 * whole, ends and cancellations reach the other side, and a process that goes away and comes back costs no call that can
 * be saved.
 *
 * @param open - Opens the router that is tested.
 */
export function routerSuite(name: string, open: (config: RouterConfig) => Promise<Router>): void {
  const build = async (heldMsMax = 10_000): Promise<Stand> => {
    const directory = await makeTemporaryDirectory("router");
    const socketPath = `${directory.path}/front.sock`;
    const servicePath = `${directory.path}/echo.sock`;
    const router = await open({ socketPath, routes: echoRoutes("echo"), socketOf: () => servicePath, heldMsMax });
    const servers: RpcServer[] = [];
    return {
      socketPath,
      servicePath,
      router,
      serve: async (handlers = plainEcho) => {
        const server = await serveRpc({
          socketPath: servicePath,
          services: [bindEcho(handlers)],
        });
        servers.push(server);
        return server;
      },
      [Symbol.asyncDispose]: async () => {
        await router.close(0);
        await Promise.all(servers.map((server) => server.close(0)));
        await directory[Symbol.asyncDispose]();
      },
    };
  };

  test(`${name}: the four kinds of calls`, async () => {
    await using stand = await build();
    await stand.serve();
    using client = openEchoClient(stand.socketPath);
    assert.deepEqual(Buffer.from((await client.unary({ value: hello })).value), hello);
    const parts = await Array.fromAsync(client.download({ value: 700_000n }));
    assert.equal(Buffer.concat(parts.map(({ value }) => value)).length, 700_000);
    assert.equal((await client.upload(repeatMessage(hello, 100))).value, 500n);
    const answers = await Array.fromAsync(client.chat(repeatMessage(hello, 50)));
    assert.equal(answers.length, 50);
  });

  test(`${name}: an error without a message comes as trailers only`, async () => {
    await using stand = await build();
    await stand.serve({
      unary: () => {
        throw failure(ErrorKind.NotFound, 'image "käse": 100%');
      },
    });
    using client = openEchoClient(stand.socketPath);
    await assert.rejects(client.unary({ value: hello }), isError(Code.NotFound, 'image "käse": 100%: not found'));
    const raw = await RawConnection.open(stand.socketPath);
    raw.send(headers(1, grpcRequest(echoPath("unary"))), data(1, grpcMessage(Buffer.alloc(0)), { end: true }));
    const answer = await raw.nextOf(Type.HEADERS, 1);
    assert.equal(answer.flags & Flags.END_STREAM, Flags.END_STREAM);
    raw.close();
  });

  test(`${name}: an error after messages comes as trailers`, async () => {
    await using stand = await build();
    await stand.serve({
      async *download() {
        yield { value: hello };
        throw failure(ErrorKind.DataLoss, "disk");
      },
    });
    using client = openEchoClient(stand.socketPath);
    const seen: number[] = [];
    await assert.rejects(
      async () => {
        for await (const { value } of client.download({ value: 1n })) {
          seen.push(value.length);
        }
      },
      isError(Code.DataLoss, "disk: data loss"),
    );
    assert.deepEqual(seen, [5]);
  });

  test(`${name}: a stream of no messages has a beginning and an end too`, async () => {
    await using stand = await build();
    await stand.serve();
    using client = openEchoClient(stand.socketPath);
    assert.deepEqual(await Array.fromAsync(client.download({ value: 0n })), []);
    const raw = await RawConnection.open(stand.socketPath);
    raw.send(headers(1, grpcRequest(echoPath("download"))), data(1, grpcMessage(Buffer.alloc(0)), { end: true }));
    const [head, end] = [await raw.nextOf(Type.HEADERS, 1), await raw.nextOf(Type.HEADERS, 1)];
    assert.equal(head.payload[0], 0x88, "the field :status 200");
    assert.equal(end.flags & Flags.END_STREAM, Flags.END_STREAM);
    raw.close();
  });

  test(`${name}: messages of 16 MiB both ways`, async () => {
    await using stand = await build();
    await stand.serve();
    using client = openEchoClient(stand.socketPath);
    const value = Buffer.alloc(16 * 1024 * 1024 - 16, "0123456789abcdef");
    const [unary, [chat]] = await Promise.all([
      client.unary({ value }),
      Array.fromAsync(client.chat(repeatMessage(value, 1))),
    ]);
    assert.equal(digestOf(unary.value), digestOf(value));
    assert.equal(digestOf(chat?.value ?? Buffer.alloc(0)), digestOf(value));
  });

  test(`${name}: long streams arrive whole in both directions at once`, async () => {
    await using stand = await build();
    const received = createHash("sha256");
    await stand.serve({
      ...plainEcho,
      async upload(requests) {
        let receivedBytes = 0n;
        for await (const { value } of requests) {
          received.update(value);
          receivedBytes += BigInt(value.length);
        }
        return { value: receivedBytes };
      },
    });
    using client = openEchoClient(stand.socketPath);
    const sizeBytes = 64 * 1024 * 1024;
    const sent = createHash("sha256");
    const download = async (): Promise<void> => {
      let at = 0;
      for await (const { value } of client.download({ value: BigInt(sizeBytes) })) {
        assert.ok(Buffer.from(value).equals(downloadBlock.subarray(0, value.length)));
        at += value.length;
      }
      assert.equal(at, sizeBytes);
    };
    const upload = async (): Promise<void> => {
      const { value } = await client.upload(
        (async function* () {
          for (let index = 0; index < 64; index++) {
            const block = Buffer.alloc(1024 * 1024, index);
            sent.update(block);
            yield { value: block };
          }
        })(),
      );
      assert.equal(value, BigInt(sizeBytes));
    };
    await Promise.all([download(), upload()]);
    assert.equal(received.digest("hex"), sent.digest("hex"));
  });

  test(`${name}: hundreds of streams at once`, async () => {
    await using stand = await build();
    await stand.serve();
    using client = openEchoClient(stand.socketPath);
    const chats = Array.from({ length: 200 }, async (_, index) => {
      const value = Buffer.alloc(1 + index * 97, index);
      const answers = await Array.fromAsync(client.chat(repeatMessage(value, 5)));
      assert.deepEqual(
        answers.map((answer) => digestOf(answer.value)),
        Array(5).fill(digestOf(value)),
      );
    });
    const calls = Array.from({ length: 400 }, async (_, index) => {
      const value = Buffer.from(`call ${index}`);
      assert.deepEqual(Buffer.from((await client.unary({ value })).value), value);
    });
    await Promise.all([...chats, ...calls]);
  });

  test(`${name}: the client ends its side first`, async () => {
    await using stand = await build();
    await stand.serve({
      async *chat(requests) {
        const all = await Array.fromAsync(requests);
        for (const { value } of all) {
          yield { value };
        }
      },
    });
    using client = openEchoClient(stand.socketPath);
    assert.equal((await Array.fromAsync(client.chat(repeatMessage(hello, 3)))).length, 3);
  });

  test(`${name}: the service ends first, and what the client still sends is nobody's`, async () => {
    await using stand = await build();
    await stand.serve({
      ...plainEcho,
      // eslint-disable-next-line require-yield
      async *chat() {
        throw failure(ErrorKind.AlreadyExists, "blob");
      },
    });
    const raw = await RawConnection.open(stand.socketPath);
    raw.send(headers(1, grpcRequest(echoPath("chat"))), data(1, grpcMessage(hello)));
    const trailers = await raw.next(isEnd);
    assert.equal(trailers.streamId, 1);
    raw.send(data(1, Buffer.alloc(16_384)), data(1, Buffer.alloc(16_384), { end: true }));
    raw.send(headers(3, grpcRequest(echoPath("unary"))), data(3, grpcMessage(Buffer.alloc(0)), { end: true }));
    await raw.next(
      ({ type, flags, streamId }) => type === Type.HEADERS && streamId === 3 && (flags & Flags.END_STREAM) !== 0,
    );
    raw.close();
  });

  test(`${name}: a client that cancels cancels the handler, and only that one`, async () => {
    await using stand = await build();
    const cancelled = Promise.withResolvers<void>();
    await stand.serve({
      ...plainEcho,
      async *chat(requests, call) {
        call.signal.addEventListener("abort", () => cancelled.resolve());
        yield* plainEcho.chat(requests, call);
      },
    });
    using client = openEchoClient(stand.socketPath);
    const gone = new AbortController();
    const blocked = Promise.withResolvers<void>();
    const chat = client.chat(
      (async function* () {
        yield { value: hello };
        await blocked.promise;
      })(),
      { signal: gone.signal },
    );
    const iterator = chat[Symbol.asyncIterator]();
    assert.equal((await iterator.next()).done, false);
    gone.abort();
    await assert.rejects(iterator.next(), isError(Code.Canceled));
    await cancelled.promise;
    blocked.resolve();
    assert.equal((await client.unary({ value: hello })).value.length, 5);
  });

  test(`${name}: a client that goes away cancels its handlers`, async () => {
    await using stand = await build();
    const started = Promise.withResolvers<void>();
    const cancelled = Promise.withResolvers<void>();
    await stand.serve({
      unary: (_request, call) => {
        started.resolve();
        return new Promise((_resolve, reject) => {
          call.signal.addEventListener("abort", () => {
            cancelled.resolve();
            reject(failure(ErrorKind.Canceled, "gone"));
          });
        });
      },
    });
    const raw = await RawConnection.open(stand.socketPath);
    raw.send(headers(1, grpcRequest(echoPath("unary"))), data(1, grpcMessage(Buffer.alloc(0)), { end: true }));
    await started.promise;
    raw.close();
    await cancelled.promise;
  });

  test(`${name}: unknown services and methods are unimplemented, in the words of a Go server`, async () => {
    await using stand = await build();
    const raw = await RawConnection.open(stand.socketPath);
    const expected = {
      "/nobody.v1.Nothing/Do": "unknown service nobody.v1.Nothing",
      "/flotilla.test.v1.Echo/Shout": "unknown method Shout for service flotilla.test.v1.Echo",
      "/nonsense": 'malformed method name: "/nonsense"',
      "*": 'malformed method name: "*"',
    };
    let streamId = 1;
    for (const [path, message] of Object.entries(expected)) {
      raw.send(headers(streamId, grpcRequest(path)), data(streamId, grpcMessage(hello), { end: true }));
      const answer = await raw.nextOf(Type.HEADERS, streamId);
      assert.equal(answer.flags & Flags.END_STREAM, Flags.END_STREAM);
      assert.ok(answer.payload.includes(Buffer.from(message)), answer.payload.toString("latin1"));
      assert.ok(answer.payload.includes(Buffer.from("grpc-status\x0212")));
      streamId += 2;
    }
    raw.close();
  });

  test(`${name}: Connect and gRPC-web, over HTTP/2 and HTTP/1.1`, async () => {
    await using stand = await build();
    await stand.serve();
    const createConnection = (): net.Socket => net.connect(stand.socketPath);
    const agent = new http.Agent();
    agent.createConnection = createConnection;
    for (const useBinaryFormat of [true, false]) {
      const common = { baseUrl: "http://localhost", useBinaryFormat };
      const http1 = { ...common, httpVersion: "1.1", nodeOptions: { agent } } as const;
      const http2 = { ...common, httpVersion: "2", nodeOptions: { createConnection } } as const;
      for (const transport of [
        createConnectTransport(http1),
        createConnectTransport(http2),
        createConnectTransport({ ...http1, useHttpGet: true }),
        createGrpcWebTransport(http1),
        createGrpcWebTransport(http2),
      ]) {
        const client = echoClient(transport);
        assert.equal(Buffer.from((await client.unary({ value: hello })).value).toString(), "hello");
        assert.equal(Buffer.from((await client.repeat({ value: hello })).value).toString(), "hello");
        let receivedBytes = 0;
        for await (const { value } of client.download({ value: 1_000_000n })) {
          receivedBytes += value.length;
        }
        assert.equal(receivedBytes, 1_000_000);
      }
    }
    agent.destroy();
  });

  test(`${name}: an unknown path over HTTP/1.1 is 404 with an error of the Connect protocol`, async () => {
    await using stand = await build();
    const request = http.request({ socketPath: stand.socketPath, path: "/nobody.v1.Nothing/Do", method: "POST" });
    request.end("{}");
    const [response] = (await once(request, "response")) as [http.IncomingMessage];
    assert.equal(response.statusCode, 404);
    const body = Buffer.concat(await response.toArray()).toString();
    assert.deepEqual(JSON.parse(body), { code: "unimplemented", message: "unknown service nobody.v1.Nothing" });
  });

  test(`${name}: a client that speaks nothing we know is told so and cut off`, async () => {
    await using stand = await build();
    for (const garbage of [
      "INVALID CONNECTION PREFACE\r\n\r\n",
      "\x00\x01\x02\x03",
      "HELO example.com\r\n\r\n",
      "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    ]) {
      const socket = net.connect(stand.socketPath);
      socket.write(garbage, "latin1");
      const answer = Buffer.concat(await socket.toArray());
      assert.deepEqual(answer, goaway(0, 1));
    }
    const socket = net.connect(stand.socketPath);
    socket.write("GET / HTTP/1.1\r\nno colon here\r\n\r\n");
    assert.match(Buffer.concat(await socket.toArray()).toString(), /^HTTP\/1\.1 400 /);
  });

  test(`${name}: calls wait for a process that is not there yet`, async () => {
    await using stand = await build();
    using client = openEchoClient(stand.socketPath);
    const value = Buffer.alloc(300_000, "x");
    const calls = [
      ...Array.from({ length: 5 }, () => client.unary({ value })),
      ...Array.from({ length: 5 }, () => client.upload(repeatMessage(value, 3))),
    ];
    const request = http.request({ socketPath: stand.socketPath, path: echoPath("unary"), method: "POST" });
    request.setHeader("content-type", "application/json").end('"aGVsbG8="');
    const responded = once(request, "response");
    const raw = await RawConnection.open(stand.socketPath);
    raw.send(headers(1, grpcRequest(echoPath("unary"))), data(1, grpcMessage(Buffer.alloc(0)), { end: true }));
    await raw.roundTrip();
    await stand.serve();
    for (const answer of await Promise.all(calls)) {
      assert.ok(typeof answer.value === "bigint" ? answer.value === 900_000n : answer.value.length === 300_000);
    }
    const [response] = (await responded) as [http.IncomingMessage];
    assert.equal(Buffer.concat(await response.toArray()).toString(), '"aGVsbG8="');
    await raw.next(isEnd);
    raw.close();
  });

  test(`${name}: calls do not wait for ever`, async () => {
    await using stand = await build(100);
    using client = openEchoClient(stand.socketPath);
    await assert.rejects(client.unary({ value: hello }), isError(Code.Unavailable));
    await assert.rejects(client.upload(repeatMessage(hello, 2)), isError(Code.Unavailable));
    const request = http.request({ socketPath: stand.socketPath, path: echoPath("unary"), method: "POST" });
    request.end("{}");
    const [response] = (await once(request, "response")) as [http.IncomingMessage];
    assert.equal(response.statusCode, 503);
    response.resume();
    const raw = await RawConnection.open(stand.socketPath);
    raw.send(headers(1, { ...grpcRequest(echoPath("unary")), "content-type": "application/json" }, { end: true }));
    assert.ok((await raw.nextOf(Type.HEADERS, 1)).payload.includes(Buffer.from("503")));
    assert.equal(JSON.parse((await raw.nextOf(Type.DATA, 1)).payload.toString()).code, "unavailable");
    raw.close();
  });

  test(`${name}: a process dies before it answered; only a call without side effects is sent again`, async () => {
    await using stand = await build();
    await using dying = await RawServer.listen(stand.servicePath);
    using client = openEchoClient(stand.socketPath);
    const value = Buffer.alloc(20_000, "r");
    const repeated = client.repeat({ value });
    const failed = assert.rejects(client.unary({ value: hello }), isError(Code.Unavailable));
    const upstream = await dying.accept();
    await upstream.readData(1, 20_000);
    await upstream.nextOf(Type.DATA, 3);
    dying.kill();
    await failed;
    await stand.serve();
    assert.ok(Buffer.from((await repeated).value).equals(value));
  });

  test(`${name}: a process dies before it has greeted; every call is sent again`, async () => {
    await using stand = await build();
    await using dying = await RawServer.listen(stand.servicePath, { settings: undefined });
    using client = openEchoClient(stand.socketPath);
    const answer = client.unary({ value: hello });
    const upstream = await dying.accept();
    await upstream.nextOf(Type.DATA, 1);
    dying.kill();
    await stand.serve();
    assert.equal((await answer).value.length, 5);
  });

  test(`${name}: a process dies amid an answer; the client gets what came and trailers that say so`, async () => {
    await using stand = await build();
    await using dying = await RawServer.listen(stand.servicePath);
    const raw = await RawConnection.open(stand.socketPath);
    raw.send(headers(1, grpcRequest(echoPath("unary"))), data(1, grpcMessage(hello), { end: true }));
    const upstream = await dying.accept();
    await upstream.nextOf(Type.DATA, 1);
    const message = grpcMessage(Buffer.alloc(50_000, "m"));
    const cut = data(1, message.subarray(0, 16_000));
    upstream.send(headers(1, responseHead), cut.subarray(0, 5_000));
    assert.ok((await raw.readData(1, 5_000 - 9)).equals(message.subarray(0, 5_000 - 9)));
    dying.kill();
    assert.equal(plainHeaders((await raw.next(isEnd)).payload)["grpc-status"], "14");
    raw.close();
  });

  test(`${name}: a process dies amid the answer to a call without side effects; the next one gives it whole`, async () => {
    await using stand = await build();
    await using dying = await RawServer.listen(stand.servicePath);
    using client = openEchoClient(stand.socketPath);
    const answer = client.repeat({ value: hello });
    const upstream = await dying.accept();
    await upstream.nextOf(Type.DATA, 1);
    upstream.send(headers(1, responseHead), data(1, grpcMessage(Buffer.from("0a03", "hex"))));
    await upstream.roundTrip();
    dying.kill();
    await stand.serve();
    assert.deepEqual(Buffer.from((await answer).value), hello);
  });

  test(`${name}: an answer that is complete arrives although its process is dead`, async () => {
    await using stand = await build();
    await using dying = await RawServer.listen(stand.servicePath);
    const raw = await RawConnection.open(stand.socketPath, { [Setting.INITIAL_WINDOW_SIZE]: 10 });
    raw.send(headers(1, grpcRequest(echoPath("unary"))), data(1, grpcMessage(hello), { end: true }));
    const upstream = await dying.accept();
    await upstream.nextOf(Type.DATA, 1);
    raw.send(windowUpdate(1, 10));
    await upstream.nextOf(Type.WINDOW_UPDATE, 1);
    upstream.send(headers(1, responseHead), data(1, Buffer.alloc(20, "a")), headers(1, trailersOk, { end: true }));
    assert.equal((await raw.readData(1, 20)).length, 20);
    dying.kill();
    assert.equal(plainHeaders((await raw.next(isEnd)).payload)["grpc-status"], "0");
    raw.close();
  });

  test(`${name}: a call that kills every process it meets is given up`, async () => {
    await using stand = await build();
    using client = openEchoClient(stand.socketPath);
    await using victim = await RawServer.listen(stand.servicePath);
    const failed = assert.rejects(client.repeat({ value: hello }), isError(Code.Unavailable));
    let tries = 0;
    const over = failed.then(() => "over" as const);
    for (;;) {
      const next = await Promise.race([over, victim.accept().catch(() => "over" as const)]);
      if (next === "over") {
        break;
      }
      tries += 1;
      await next.nextOf(Type.DATA);
      next.close();
    }
    assert.ok(tries > 1 && tries < 10, `${tries} tries`);
  });

  test(`${name}: a process that says goodbye ends what it took; the rest goes to the next one`, async () => {
    await using stand = await build();
    await using leaving = await RawServer.listen(stand.servicePath);
    const raw = await RawConnection.open(stand.socketPath);
    raw.send(headers(1, grpcRequest(echoPath("unary"))), data(1, grpcMessage(hello), { end: true }));
    raw.send(headers(3, grpcRequest(echoPath("unary"))), data(3, grpcMessage(Buffer.from("three")), { end: true }));
    const first = await leaving.accept();
    await first.nextOf(Type.DATA, 3);
    first.send(goaway(1, 0));
    raw.send(headers(5, grpcRequest(echoPath("unary"))), data(5, grpcMessage(hello), { end: true }));
    const second = await leaving.accept();
    const resent = await second.nextOf(Type.HEADERS);
    assert.equal(resent.streamId, 3);
    assert.ok((await second.nextOf(Type.DATA, 3)).payload.equals(grpcMessage(Buffer.from("three"))));
    await second.nextOf(Type.DATA, 5);
    first.send(headers(1, { ...responseHead, ...trailersOk }, { end: true }));
    assert.equal((await raw.nextOf(Type.HEADERS)).streamId, 1);
    await first.ended();
    second.send(headers(3, { ...responseHead, ...trailersOk }, { end: true }));
    assert.equal((await raw.nextOf(Type.HEADERS)).streamId, 3);
    raw.close();
  });

  test(`${name}: a goodbye in two steps never makes ids fall on a connection`, async () => {
    await using stand = await build();
    await using leaving = await RawServer.listen(stand.servicePath);
    const raw = await RawConnection.open(stand.socketPath);
    raw.send(headers(1, grpcRequest(echoPath("unary")), { end: true }));
    raw.send(headers(3, grpcRequest(echoPath("unary")), { end: true }));
    const first = await leaving.accept();
    await first.nextOf(Type.HEADERS, 3);
    first.send(goaway(0x7fffffff, 0));
    await first.roundTrip();
    raw.send(headers(5, grpcRequest(echoPath("unary")), { end: true }));
    const second = await leaving.accept();
    assert.equal((await second.nextOf(Type.HEADERS)).streamId, 5);
    first.send(goaway(1, 0));
    const third = await leaving.accept();
    assert.equal((await third.nextOf(Type.HEADERS)).streamId, 3);
    raw.send(headers(7, grpcRequest(echoPath("unary")), { end: true }));
    assert.equal((await third.nextOf(Type.HEADERS)).streamId, 7);
    for (const [connection, streamId] of [
      [second, 5],
      [third, 3],
      [first, 1],
      [third, 7],
    ] as const) {
      connection.send(headers(streamId, { ...responseHead, ...trailersOk }, { end: true }));
      assert.equal((await raw.nextOf(Type.HEADERS)).streamId, streamId);
    }
    raw.close();
  });

  test(`${name}: a router that stops says goodbye, ends what runs and takes nothing new`, async () => {
    await using stand = await build();
    const release = Promise.withResolvers<void>();
    await stand.serve({
      unary: async (request) => {
        await release.promise;
        return { value: request.value };
      },
    });
    const raw = await RawConnection.open(stand.socketPath);
    raw.send(headers(1, grpcRequest(echoPath("unary"))), data(1, grpcMessage(Buffer.alloc(0)), { end: true }));
    await raw.roundTrip();
    const idle = await RawConnection.open(stand.socketPath);
    const closed = stand.router.close(10_000);
    await idle.nextOf(Type.GOAWAY);
    await idle.ended();
    await raw.next(({ type, payload }) => type === Type.GOAWAY && payload.readUInt32BE(0) === 1);
    raw.send(headers(3, grpcRequest(echoPath("unary")), { end: true }));
    await raw.roundTrip();
    release.resolve();
    const answer = await raw.next(isEnd);
    assert.equal(answer.streamId, 1);
    await raw.ended();
    assert.equal(raw.frames.filter(({ streamId }) => streamId === 3).length, 0);
    await closed;
  });

  test(`${name}: a router that stops cuts off what takes too long`, async () => {
    await using stand = await build();
    await stand.serve({ unary: () => new Promise(() => undefined) });
    const raw = await RawConnection.open(stand.socketPath);
    raw.send(headers(1, grpcRequest(echoPath("unary"))), data(1, grpcMessage(Buffer.alloc(0)), { end: true }));
    await raw.roundTrip();
    await stand.router.close(50);
    await raw.ended();
  });

  test(`${name}: PING is answered at once, whatever a process does`, async () => {
    await using stand = await build();
    await stand.serve({ unary: () => new Promise(() => undefined) });
    const raw = await RawConnection.open(stand.socketPath);
    raw.send(headers(1, grpcRequest(echoPath("unary"))), data(1, grpcMessage(Buffer.alloc(0)), { end: true }));
    await raw.roundTrip();
    raw.send(frame(Type.PING, 0, 0, Buffer.from("12345678")));
    const answer = await raw.nextOf(Type.PING);
    assert.equal(answer.flags, Flags.ACK);
    assert.equal(answer.payload.toString(), "12345678");
    raw.close();
  });
}

/** Tells whether a frame holds trailers. */
function isEnd({ type, flags }: RawFrame): boolean {
  return type === Type.HEADERS && (flags & Flags.END_STREAM) !== 0;
}

async function* repeatMessage(value: Uint8Array, count: number): AsyncIterable<{ value: Uint8Array }> {
  for (let index = 0; index < count; index++) {
    yield { value };
  }
}

function digestOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

function isError(code: Code, message?: string): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof ConnectError, String(error));
    assert.equal(Code[error.code], Code[code], error.rawMessage);
    assert.ok(message === undefined || error.rawMessage === message, error.rawMessage);
    return true;
  };
}
