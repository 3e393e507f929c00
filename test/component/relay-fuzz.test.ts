import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import test from "node:test";
import * as fc from "fast-check";
import { echoPath } from "../kit/echo-service.ts";
import {
  data,
  Flags,
  frame,
  goaway,
  grpcMessage,
  grpcRequest,
  headerBlock,
  headers,
  preface,
  RawConnection,
  RawServer,
  resetStream,
  Setting,
  settings,
  Type,
  windowUpdate,
} from "../kit/raw-http2.ts";
import { buildRelayStand, type RelayStand, serveEcho } from "../kit/relay-stand.ts";

const hello = grpcMessage(Buffer.from("0a0568656c6c6f", "hex"));
const responseHead = { ":status": "200", "content-type": "application/grpc" };

/** A session that does a bit of everything, frame by frame; the service answers all of it. */
const session: readonly Buffer[] = [
  preface,
  settings({ [Setting.INITIAL_WINDOW_SIZE]: 70_000, [Setting.HEADER_TABLE_SIZE]: 100 }),
  frame(Type.SETTINGS, Flags.ACK, 0),
  windowUpdate(0, 100_000),
  headers(1, grpcRequest(echoPath("unary"))),
  data(1, hello, { end: true }),
  headers(3, grpcRequest(echoPath("chat"))),
  data(3, hello.subarray(0, 4)),
  frame(Type.PING, 0, 0, Buffer.from("12345678")),
  data(3, hello.subarray(4)),
  windowUpdate(3, 5_000),
  settings({ [Setting.INITIAL_WINDOW_SIZE]: 60_000 }),
  frame(
    Type.HEADERS,
    Flags.PRIORITY,
    5,
    Buffer.concat([Buffer.alloc(5), headerBlock(grpcRequest(echoPath("repeat")))]),
  ),
  frame(Type.CONTINUATION, Flags.END_HEADERS, 5, headerBlock({ "x-more": "yes" })),
  frame(Type.DATA, Flags.PADDED | Flags.END_STREAM, 5, Buffer.concat([Buffer.of(9), hello, Buffer.alloc(9)])),
  headers(7, grpcRequest("/nobody/Home")),
  resetStream(7, 8),
  data(3, Buffer.alloc(0), { end: true }),
  frame(Type.HEADERS, Flags.END_HEADERS | Flags.END_STREAM, 9, Buffer.from("83864401614001610162be", "hex")),
  goaway(0, 0),
];

/** One change to a sequence of frames. */
type Mutation = (frames: Buffer[]) => void;

const at = fc.nat({ max: 1_000 });
const mutations: fc.Arbitrary<Mutation> = fc.oneof(
  fc.tuple(at, at, fc.nat({ max: 255 })).map(
    ([which, where, octet]): Mutation =>
      (frames) => {
        const target = frames[which % frames.length];
        if (target !== undefined && target.length > 0) {
          target[where % target.length] = octet;
        }
      },
  ),
  at.map(
    (which): Mutation =>
      (frames) =>
        void frames.splice(which % frames.length, 1),
  ),
  fc.tuple(at, at).map(
    ([from, to]): Mutation =>
      (frames) => {
        const copied = frames[from % frames.length];
        frames.splice(to % frames.length, 0, Buffer.from(copied ?? ""));
      },
  ),
  fc.tuple(at, at).map(
    ([which, length]): Mutation =>
      (frames) => {
        const index = which % frames.length;
        frames[index] = Buffer.from(frames[index]?.subarray(0, length) ?? "");
      },
  ),
  fc.tuple(at, fc.nat({ max: 12 }), fc.nat({ max: 255 }), fc.nat({ max: 12 }), fc.uint8Array({ maxLength: 40 })).map(
    ([where, type, flags, streamId, payload]): Mutation =>
      (frames) => {
        frames.splice(where % frames.length, 0, frame(type, flags, streamId, payload));
      },
  ),
);

/** Sends bytes in chunks, ends the connection, and waits until the other side has ended it too. */
async function play(socketPath: string, bytes: Buffer, cuts: readonly number[]): Promise<void> {
  const socket = net.connect(socketPath);
  await once(socket, "connect");
  const connection = new RawConnection(socket, { side: "client", acknowledges: false });
  const places = cuts.map((cut) => cut % (bytes.length + 1)).sort((left, right) => left - right);
  let from = 0;
  for (const place of [...places, bytes.length]) {
    socket.write(bytes.subarray(from, place));
    await new Promise((resolve) => setImmediate(resolve));
    from = place;
  }
  socket.end();
  await connection.ended();
}

/** Checks that the relay still serves others and has met nothing that it does not know. */
async function checkAlive({ socketPath, relay }: RelayStand): Promise<void> {
  const client = await RawConnection.open(socketPath);
  client.send(headers(1, grpcRequest(echoPath("unary"))), data(1, hello, { end: true }));
  await client.next(({ type, flags }) => type === Type.HEADERS && (flags & Flags.END_STREAM) !== 0);
  client.close();
  assert.deepEqual(
    relay.warnings.filter((warning) => warning.startsWith("the relay failed")),
    [],
  );
}

test("a session that is changed at random is answered or ended, and others are served", async () => {
  await using stand = await buildRelayStand({ heldMsMax: 500 });
  await using server = await serveEcho(stand);
  void server;
  await fc.assert(
    fc.asyncProperty(
      fc.array(mutations, { maxLength: 6 }),
      fc.array(fc.nat({ max: 3_000 }), { maxLength: 8 }),
      async (changes, cuts) => {
        const frames = session.map((original) => Buffer.from(original));
        for (const change of changes) {
          if (frames.length > 0) {
            change(frames);
          }
        }
        await play(stand.socketPath, Buffer.concat(frames), cuts);
      },
    ),
    { numRuns: 400 },
  );
  await checkAlive(stand);
});

test("a session that is cut off after any byte leaves nothing behind", async () => {
  await using stand = await buildRelayStand({ heldMsMax: 500 });
  await using server = await serveEcho(stand);
  void server;
  const bytes = Buffer.concat(session);
  for (let length = 0; length <= bytes.length; length += 8) {
    const cuts = Array.from({ length: Math.min(8, length) }, (_, index) => length - index);
    await Promise.all(cuts.map((cut) => play(stand.socketPath, bytes.subarray(0, cut), [])));
  }
  await checkAlive(stand);
});

test("random bytes, with and without the preface, are answered or cut off", async () => {
  await using stand = await buildRelayStand({ heldMsMax: 500 });
  await using server = await serveEcho(stand);
  void server;
  const start = fc.constantFrom(
    Buffer.alloc(0),
    preface,
    Buffer.concat([preface, settings()]),
    preface.subarray(0, 10),
  );
  await fc.assert(
    fc.asyncProperty(start, fc.uint8Array({ maxLength: 200 }), async (beginning, rest) => {
      await play(stand.socketPath, Buffer.concat([beginning, rest]), [3, 30]);
    }),
    { numRuns: 300 },
  );
  await checkAlive(stand);
});

test("a service that answers with anything at all costs no more than its calls", async () => {
  await using stand = await buildRelayStand({ heldMsMax: 500 });
  const answers: readonly Buffer[] = [
    headers(1, responseHead),
    data(1, hello),
    headers(1, { "grpc-status": "0" }, { end: true }),
    headers(3, { ...responseHead, "grpc-status": "5" }, { end: true }),
    windowUpdate(0, 10_000),
    windowUpdate(1, 10_000),
    settings({ [Setting.INITIAL_WINDOW_SIZE]: 20 }),
    frame(Type.PING, 0, 0, Buffer.from("12345678")),
    resetStream(5, 8),
    goaway(5, 0),
  ];
  await fc.assert(
    fc.asyncProperty(fc.array(mutations, { maxLength: 6 }), async (changes) => {
      const frames = answers.map((original) => Buffer.from(original));
      for (const change of changes) {
        if (frames.length > 0) {
          change(frames);
        }
      }
      await using server = await RawServer.listen(stand.servicePath);
      const client = await RawConnection.open(stand.socketPath);
      for (const streamId of [1, 3, 5]) {
        client.send(headers(streamId, grpcRequest(echoPath("unary"))), data(streamId, hello, { end: true }));
      }
      const service = await server.accept();
      await service.nextOf(Type.DATA, 5);
      service.send(...frames);
      await client.roundTrip();
      server.kill();
      await client.roundTrip();
      client.close();
    }),
    { numRuns: 200 },
  );
  await using server = await serveEcho(stand);
  void server;
  await checkAlive(stand);
});
