import assert from "node:assert/strict";
import { stat } from "node:fs/promises";
import net from "node:net";
import { duplexPair } from "node:stream";
import test from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { create, toBinary } from "@bufbuild/protobuf";
import { BytesValueSchema } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { ErrorKind, failure } from "#base/errors.ts";
import { connectRpc, type RpcConnection } from "#wire/client.ts";
import { BorrowedResponse } from "#wire/handler.ts";
import { leaseHeader, namespaceHeader } from "#wire/headers.ts";
import { ClientSession } from "#wire/http2/client-session.ts";
import { wholeBuffer } from "#wire/http2/data-flow.ts";
import { encodeHeaderBlock } from "#wire/http2/header-encoder.ts";
import { ignoredStream } from "#wire/http2/stream-events.ts";
import { listen } from "#wire/listen.ts";
import type { CallObserver, CallWatcher } from "#wire/observe.ts";
import { hostRpc, type RpcServer, serveRpc } from "#wire/server.ts";
import { bindEcho, type EchoClient, type EchoHandlers, echoClient, echoPath, plainEcho } from "../kit/echo-service.ts";
import {
  data,
  Flags,
  frame,
  grpcMessage,
  grpcRequest,
  headerBlock,
  headers,
  RawConnection,
  resetStream,
  Setting,
  Type,
  windowUpdate,
} from "../kit/raw-http2.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";

interface Stand extends AsyncDisposable {
  readonly socketPath: string;
  readonly server: RpcServer;
  readonly connection: RpcConnection;
  readonly client: EchoClient;
}

async function buildStand(
  handlers: EchoHandlers,
  observers: { readonly server?: CallObserver; readonly client?: CallObserver } = {},
): Promise<Stand> {
  const directory = await makeTemporaryDirectory("rpc");
  const socketPath = `${directory.path}/s.sock`;
  const server = await serveRpc({
    socketPath,
    services: [bindEcho(handlers)],
    ...(observers.server === undefined ? {} : { observer: observers.server }),
  });
  const connection = connectRpc(socketPath, observers.client === undefined ? {} : { observer: observers.client });
  return {
    socketPath,
    server,
    connection,
    client: echoClient(connection.transport),
    [Symbol.asyncDispose]: async () => {
      connection.close();
      await server.close(0);
      await directory[Symbol.asyncDispose]();
    },
  };
}

const message = (text: string): Buffer =>
  grpcMessage(toBinary(BytesValueSchema, create(BytesValueSchema, { value: Buffer.from(text) })));

test("of a header that is sent twice the first value counts", async () => {
  const seen: unknown[] = [];
  await using stand = await buildStand({
    unary: (request, call) => {
      seen.push([call.header(namespaceHeader), call.header(leaseHeader)]);
      return { value: request.value };
    },
  });
  const raw = await RawConnection.open(stand.socketPath);
  const twice = (values: readonly string[]): Buffer =>
    Buffer.concat(values.map((value) => headerBlock({ [namespaceHeader]: value, [leaseHeader]: `lease-of-${value}` })));
  const types = ["application/grpc", "application/grpc-web+proto"];
  for (const [index, type] of types.entries()) {
    const streamId = 1 + 2 * index;
    const fields = headerBlock({ ...grpcRequest(echoPath("unary")), "content-type": type });
    const block = Buffer.concat([fields, twice(["testing", "a"])]);
    raw.send(frame(Type.HEADERS, Flags.END_HEADERS, streamId, block), data(streamId, message("x"), { end: true }));
    await raw.nextOf(Type.HEADERS, streamId);
    await raw.nextOf(Type.DATA, streamId);
  }
  assert.deepEqual(
    seen,
    types.map(() => ["testing", "lease-of-testing"]),
  );
  raw.close();
});

test("a server that stops says so first, lets changes end, and takes no more", async () => {
  const held = Promise.withResolvers<void>();
  const entered = Promise.withResolvers<void>();
  await using stand = await buildStand({
    unary: async ({ value }) => {
      entered.resolve();
      await held.promise;
      return { value };
    },
    repeat: () => new Promise(() => undefined),
  });
  const raw = await RawConnection.open(stand.socketPath);
  raw.send(headers(1, grpcRequest(echoPath("unary"))), data(1, message("change"), { end: true }));
  raw.send(headers(3, grpcRequest(echoPath("repeat"))), data(3, message("wait"), { end: true }));
  await entered.promise;
  const closed = stand.server.close(5_000);
  const first = await raw.nextOf(Type.GOAWAY);
  assert.deepEqual([first.payload.readUInt32BE(), first.payload.readUInt32BE(4)], [0x7fff_ffff, 0]);
  const second = await raw.nextOf(Type.GOAWAY);
  assert.deepEqual([second.payload.readUInt32BE(), second.payload.readUInt32BE(4)], [3, 0]);
  raw.send(headers(5, grpcRequest(echoPath("unary"))), data(5, message("late"), { end: true }));
  held.resolve();
  assert.ok((await raw.readData(1, 1)).length > 0);
  await raw.ended();
  await closed;
  assert.equal(
    raw.frames.some(({ streamId }) => streamId === 5),
    false,
  );
});

test("calls in which somebody streams end when the client's connection is closed", async () => {
  const aborted = Promise.withResolvers<unknown>();
  await using stand = await buildStand({
    async *chat(requests, call) {
      call.signal.addEventListener("abort", () => aborted.resolve(call.signal.reason));
      yield* plainEcho.chat(requests, call);
    },
  });
  const blocked = Promise.withResolvers<void>();
  const chat = stand.client.chat(
    (async function* () {
      yield { value: Buffer.from("a") };
      await blocked.promise;
    })(),
  );
  const answers = chat[Symbol.asyncIterator]();
  assert.equal((await answers.next()).done, false);
  stand.connection.close();
  await assert.rejects(answers.next(), { kind: ErrorKind.Unavailable });
  assert.ok((await aborted.promise) instanceof Error);
  await assert.rejects(stand.client.unary({ value: Buffer.alloc(0) }), { kind: ErrorKind.Unavailable });
  blocked.resolve();
});

test("memory that is borrowed for an answer is not asked for again before it is written", async () => {
  const shared = Buffer.alloc(1024 * 1024);
  const head = Buffer.from("0a80804 0".replace(" ", ""), "hex");
  await using stand = await buildStand({
    async *download({ value }) {
      for (let index = 0; index < Number(value); index++) {
        shared.fill(index);
        yield new BorrowedResponse(head, shared) as unknown as { value: Uint8Array };
      }
    },
  });
  let index = 0;
  for await (const { value } of stand.client.download({ value: 24n })) {
    assert.equal(value.length, shared.length);
    assert.ok(
      value.every((octet) => octet === index),
      `block ${index} was overwritten on its way`,
    );
    await delay(index % 5);
    index++;
  }
  assert.equal(index, 24);
});

test("a handler that streams goes no further than the client's window, and one that reads no further than it asks", async () => {
  let made = 0;
  const taken: number[] = [];
  const more = Promise.withResolvers<void>();
  await using stand = await buildStand({
    async *download() {
      for (; made < 1_000; made++) {
        yield { value: Buffer.alloc(100_000) };
      }
    },
    async upload(requests) {
      for await (const { value } of requests) {
        taken.push(value.length);
        await more.promise;
      }
      return { value: BigInt(taken.length) };
    },
  });
  const raw = await RawConnection.open(stand.socketPath, { [Setting.INITIAL_WINDOW_SIZE]: 150_000 });
  raw.send(headers(1, grpcRequest(echoPath("download"))), data(1, grpcMessage(Buffer.alloc(0)), { end: true }));
  await raw.readData(1, 65_535);
  await raw.roundTrip();
  assert.ok(made <= 2, `${made} messages were made`);
  raw.send(resetStream(1, 8));

  let isSent = false;
  const upload = stand.client.upload(
    (async function* () {
      for (let index = 0; index < 40; index++) {
        yield { value: Buffer.alloc(100_000) };
      }
      isSent = true;
    })(),
  );
  while (taken.length === 0) {
    await delay(1);
  }
  await delay(50);
  assert.equal(isSent, false, "4 MB do not fit into a window of 1 MiB");
  more.resolve();
  assert.equal((await upload).value, 40n);
  raw.close();
});

test("the connection's window comes back for calls that end before their requests are read", async () => {
  await using stand = await buildStand({
    upload: () => Promise.reject(failure(ErrorKind.InvalidArgument, "no")),
    // eslint-disable-next-line require-yield
    async *chat(requests) {
      await requests[Symbol.asyncIterator]().next();
      throw failure(ErrorKind.InvalidArgument, "no");
    },
  });
  const block = Buffer.alloc(900_000);
  for (let round = 0; round < 40; round++) {
    const requests = async function* (): AsyncGenerator<{ value: Uint8Array }> {
      yield { value: block };
    };
    await assert.rejects(stand.client.upload(requests()), { kind: ErrorKind.InvalidArgument });
    await assert.rejects(Array.fromAsync(stand.client.chat(requests())), { kind: ErrorKind.InvalidArgument });
  }
});

test("an observer sees beginning, messages and end of every call, at both ends", async () => {
  const lines: string[] = [];
  const observe = (): CallObserver => ({
    start: (side, rpc, fields): CallWatcher => {
      const name = `${side} ${rpc.split("/").at(-1) ?? ""}`;
      lines.push(`${name} begins in ${fields.find(namespaceHeader) ?? "none"}`);
      return {
        requestMessage: (sizeBytes) => lines.push(`${name} < ${sizeBytes}`),
        responseMessage: (sizeBytes) => lines.push(`${name} > ${sizeBytes}`),
        end: (code) => lines.push(`${name} ends with ${String(code)}`),
      };
    },
    failed: ({ rpc, error }) => lines.push(`failed ${rpc.split("/").at(-1) ?? ""} ${error.code}`),
  });
  await using stand = await buildStand(
    {
      ...plainEcho,
      repeat: () => {
        throw failure(ErrorKind.NotFound, "x");
      },
    },
    { server: observe(), client: observe() },
  );
  const options = { headers: { [namespaceHeader]: "ns" } };
  const value = Buffer.from("abc");
  const of = (part: string): string[] => lines.filter((line) => line.includes(part));
  await stand.client.unary({ value }, options);
  assert.deepEqual(of("server Unary"), [
    "server Unary begins in ns",
    "server Unary < 5",
    "server Unary > 5",
    "server Unary ends with 0",
  ]);
  assert.deepEqual(of("client Unary"), [
    "client Unary begins in ns",
    "client Unary < 5",
    "client Unary > 5",
    "client Unary ends with 0",
  ]);
  await assert.rejects(stand.client.repeat({ value }));
  assert.deepEqual(of("Repeat").slice(-3), [
    `failed Repeat ${Code.NotFound}`,
    `server Repeat ends with ${Code.NotFound}`,
    `client Repeat ends with ${Code.NotFound}`,
  ]);
  const requests = async function* (): AsyncGenerator<{ value: Uint8Array }> {
    yield { value };
    yield { value };
  };
  await Array.fromAsync(stand.client.chat(requests(), options));
  for (const side of ["server", "client"]) {
    assert.equal(of(`${side} Chat <`).length, 2);
    assert.equal(of(`${side} Chat >`).length, 2);
    assert.equal(of(`${side} Chat ends with 0`).length, 1);
  }
});

test("a client that does not begin with the preface is told so and cut off", async () => {
  await using stand = await buildStand(plainEcho);
  const socket = net.connect(stand.socketPath);
  socket.write("GET / HTTP/1.1\r\n\r\n");
  const goodbye = new RawConnection(socket, { side: "client" });
  assert.equal((await goodbye.nextOf(Type.GOAWAY)).payload.readUInt32BE(4), 1);
  await goodbye.ended();
});

test("a session whose stream ids are used up takes no more, and its streams end", async () => {
  const host = hostRpc({ services: [bindEcho(plainEcho)] });
  const [here, there] = duplexPair();
  host.accept(there);
  const left = Promise.withResolvers<void>();
  const closed = Promise.withResolvers<void>();
  const owner = { sessionLeaving: () => left.resolve(), sessionClosed: () => closed.resolve() };
  const session = new ClientSession(here, owner, 0x7fff_ffff);
  session.start();
  assert.equal(session.canOpen, true);
  const head = encodeHeaderBlock(Object.entries({ ...grpcRequest(echoPath("unary")) }));
  const ended = Promise.withResolvers<void>();
  const stream = session.open(wholeBuffer(head), {
    ...ignoredStream,
    onEnd: () => ended.resolve(),
    onAbort: (code) => ended.reject(new Error(`reset with ${String(code)}`)),
  });
  stream.endWith(message("last"));
  assert.equal(session.canOpen, false);
  await left.promise;
  await ended.promise;
  await closed.promise;
  await host.close(0);
});

test("a socket has its mode and its owner, and the process keeps its own mask all the time", async () => {
  await using directory = await makeTemporaryDirectory("listen");
  const mask = process.umask();
  const socketPath = `${directory.path}/made/l.sock`;
  const opened = new AbortController();
  const opening = listen({ socketPath, socketMode: 0o606, owner: { uid: 12, gid: 34 } }, (socket) => socket.end());
  const watching = (async () => {
    while (!opened.signal.aborted) {
      assert.equal(process.umask(), mask);
      await new Promise((resolve) => setImmediate(resolve));
    }
  })();
  const server = await opening;
  opened.abort();
  await watching;
  const { mode, uid, gid } = await stat(socketPath);
  assert.deepEqual([mode & 0o777, uid, gid], [0o606, 12, 34]);
  assert.equal(process.umask(), mask);
  server.close();
  await assert.rejects(
    listen({ socketPath: `/tmp/${"x".repeat(120)}` }, () => undefined),
    { kind: ErrorKind.InvalidArgument },
  );
});

test("a window that a client takes back and gives again moves what waits", async () => {
  await using stand = await buildStand(plainEcho);
  const raw = await RawConnection.open(stand.socketPath, { [Setting.INITIAL_WINDOW_SIZE]: 10 });
  raw.send(headers(1, grpcRequest(echoPath("unary"))), data(1, message("0123456789"), { end: true }));
  assert.equal((await raw.readData(1, 10)).length, 10);
  await raw.roundTrip();
  raw.send(windowUpdate(1, 100));
  assert.equal((await raw.readData(1, 7)).length, 7);
  await raw.next(({ type, flags }) => type === Type.HEADERS && (flags & Flags.END_STREAM) !== 0);
  raw.close();
});
