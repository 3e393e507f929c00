import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import test from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { CallObserver } from "#wire/observe.ts";
import { echoPath } from "../kit/echo-service.ts";
import {
  data,
  Flags,
  frame,
  grpcMessage,
  grpcRequest,
  headerBlock,
  headers,
  plainHeaders,
  preface,
  RawConnection,
  type RawFrame,
  RawServer,
  resetStream,
  Setting,
  settings,
  Type,
  windowUpdate,
} from "../kit/raw-http2.ts";
import { buildRelayStand, openStream, serveEcho } from "../kit/relay-stand.ts";

const Code = {
  NO_ERROR: 0,
  PROTOCOL_ERROR: 1,
  FLOW_CONTROL_ERROR: 3,
  STREAM_CLOSED: 5,
  FRAME_SIZE_ERROR: 6,
  REFUSED_STREAM: 7,
  CANCEL: 8,
  COMPRESSION_ERROR: 9,
  ENHANCE_YOUR_CALM: 11,
} as const;

const request = grpcRequest(echoPath("unary"));
const block = headerBlock(request);
const responseHead = { ":status": "200", "content-type": "application/grpc" };
const word = (value: number): Buffer => Buffer.from(value.toString(16).padStart(8, "0"), "hex");

function repeat(count: number, bytes: Buffer): Buffer {
  return Buffer.concat(Array<Buffer>(count).fill(bytes));
}

/** What ends a connection, and with which code. Sent after the settings were exchanged. */
const faults: Record<string, readonly [number, ...Buffer[]]> = {
  "a frame larger than allowed": [Code.FRAME_SIZE_ERROR, frame(Type.DATA, 0, 1, Buffer.alloc(16_385))],
  "DATA without stream": [Code.PROTOCOL_ERROR, data(0, Buffer.alloc(1))],
  "DATA of a stream never opened": [Code.PROTOCOL_ERROR, data(1, Buffer.alloc(1))],
  "padded DATA without stream": [Code.PROTOCOL_ERROR, frame(Type.DATA, Flags.PADDED, 0, Buffer.alloc(2))],
  "DATA shorter than its padding": [
    Code.PROTOCOL_ERROR,
    headers(1, request),
    frame(Type.DATA, Flags.PADDED, 1, Buffer.of(5, 0, 0, 0, 0)),
  ],
  "padded DATA without pad length": [Code.PROTOCOL_ERROR, headers(1, request), frame(Type.DATA, Flags.PADDED, 1)],
  "HEADERS without stream": [Code.PROTOCOL_ERROR, headers(0, request)],
  "HEADERS of an even stream": [Code.PROTOCOL_ERROR, headers(2, request)],
  "a stream below the last": [Code.PROTOCOL_ERROR, headers(5, request, { end: true }), headers(3, request)],
  "HEADERS shorter than padding": [
    Code.PROTOCOL_ERROR,
    frame(Type.HEADERS, Flags.PADDED | Flags.END_HEADERS, 1, Buffer.concat([Buffer.of(255), block])),
  ],
  "HEADERS shorter than priority": [
    Code.PROTOCOL_ERROR,
    frame(Type.HEADERS, Flags.PRIORITY | Flags.END_HEADERS, 1, Buffer.alloc(4)),
  ],
  "a header block that is no HPACK": [
    Code.COMPRESSION_ERROR,
    frame(Type.HEADERS, Flags.END_HEADERS, 1, Buffer.from("ffffffffff", "hex")),
  ],
  "a table larger than the setting": [
    Code.COMPRESSION_ERROR,
    frame(Type.HEADERS, Flags.END_HEADERS, 1, Buffer.concat([Buffer.from("3fe21f", "hex"), block])),
  ],
  "CONTINUATION alone": [Code.PROTOCOL_ERROR, frame(Type.CONTINUATION, Flags.END_HEADERS, 1)],
  "a header block interrupted by another stream's": [
    Code.PROTOCOL_ERROR,
    frame(Type.HEADERS, 0, 1, block),
    frame(Type.CONTINUATION, Flags.END_HEADERS, 3),
  ],
  "a header block interrupted by DATA": [
    Code.PROTOCOL_ERROR,
    headers(1, request),
    frame(Type.HEADERS, 0, 3, block),
    data(1, Buffer.alloc(1)),
  ],
  "a header block interrupted by PING": [
    Code.PROTOCOL_ERROR,
    frame(Type.HEADERS, 0, 1, block),
    frame(Type.PING, 0, 0, Buffer.alloc(8)),
  ],
  "a header block that never ends": [
    Code.ENHANCE_YOUR_CALM,
    frame(Type.HEADERS, 0, 1, block),
    repeat(5, frame(Type.CONTINUATION, 0, 1, Buffer.alloc(16_384))),
  ],
  "a header block of countless empty frames": [
    Code.ENHANCE_YOUR_CALM,
    frame(Type.HEADERS, 0, 1, block),
    repeat(100, frame(Type.CONTINUATION, 0, 1)),
  ],
  "a table size update behind the fields": [
    Code.COMPRESSION_ERROR,
    frame(Type.HEADERS, Flags.END_HEADERS, 1, Buffer.concat([block, Buffer.of(0x21)])),
  ],
  "PRIORITY of a stream never opened that depends on itself": [
    Code.PROTOCOL_ERROR,
    frame(Type.PRIORITY, 0, 1, Buffer.of(0, 0, 0, 1, 0)),
  ],
  "PRIORITY without stream": [Code.PROTOCOL_ERROR, frame(Type.PRIORITY, 0, 0, Buffer.alloc(5))],
  "RST_STREAM without stream": [Code.PROTOCOL_ERROR, resetStream(0, 0)],
  "RST_STREAM of a stream never opened": [Code.PROTOCOL_ERROR, resetStream(1, 0)],
  "RST_STREAM of a wrong size": [
    Code.FRAME_SIZE_ERROR,
    headers(1, request),
    frame(Type.RST_STREAM, 0, 1, Buffer.alloc(5)),
  ],
  "SETTINGS of a stream": [Code.PROTOCOL_ERROR, frame(Type.SETTINGS, 0, 1)],
  "SETTINGS of a wrong size": [Code.FRAME_SIZE_ERROR, frame(Type.SETTINGS, 0, 0, Buffer.alloc(7))],
  "acknowledged SETTINGS with payload": [Code.FRAME_SIZE_ERROR, frame(Type.SETTINGS, Flags.ACK, 0, Buffer.alloc(6))],
  "SETTINGS_ENABLE_PUSH of 2": [Code.PROTOCOL_ERROR, settings({ [Setting.ENABLE_PUSH]: 2 })],
  "SETTINGS_INITIAL_WINDOW_SIZE too large": [
    Code.FLOW_CONTROL_ERROR,
    settings({ [Setting.INITIAL_WINDOW_SIZE]: 0x8000_0000 }),
  ],
  "SETTINGS_MAX_FRAME_SIZE too small": [Code.PROTOCOL_ERROR, settings({ [Setting.MAX_FRAME_SIZE]: 16_383 })],
  "SETTINGS_MAX_FRAME_SIZE too large": [Code.PROTOCOL_ERROR, settings({ [Setting.MAX_FRAME_SIZE]: 16_777_216 })],
  PUSH_PROMISE: [Code.PROTOCOL_ERROR, frame(Type.PUSH_PROMISE, Flags.END_HEADERS, 1, Buffer.concat([word(2), block]))],
  "PING of a stream": [Code.PROTOCOL_ERROR, frame(Type.PING, 0, 1, Buffer.alloc(8))],
  "PING of a wrong size": [Code.FRAME_SIZE_ERROR, frame(Type.PING, 0, 0, Buffer.alloc(7))],
  "GOAWAY of a stream": [Code.PROTOCOL_ERROR, frame(Type.GOAWAY, 0, 1, Buffer.alloc(8))],
  "GOAWAY of a wrong size": [Code.FRAME_SIZE_ERROR, frame(Type.GOAWAY, 0, 0, Buffer.alloc(7))],
  "WINDOW_UPDATE of a stream never opened": [Code.PROTOCOL_ERROR, windowUpdate(1, 1)],
  "WINDOW_UPDATE of 0": [Code.PROTOCOL_ERROR, windowUpdate(0, 0)],
  "WINDOW_UPDATE of a wrong size": [Code.FRAME_SIZE_ERROR, frame(Type.WINDOW_UPDATE, 0, 0, Buffer.alloc(3))],
  "a flood of SETTINGS": [Code.ENHANCE_YOUR_CALM, repeat(1_000, settings())],
  "a flood of PING": [Code.ENHANCE_YOUR_CALM, repeat(15_000, frame(Type.PING, 0, 0, Buffer.alloc(8)))],
  "a flood of empty DATA": [Code.ENHANCE_YOUR_CALM, headers(1, request), repeat(15_000, data(1, Buffer.alloc(0)))],
  "a flood of PRIORITY": [Code.ENHANCE_YOUR_CALM, repeat(15_000, frame(Type.PRIORITY, 0, 1, Buffer.alloc(5)))],
  "a flood of unknown frames": [Code.ENHANCE_YOUR_CALM, repeat(15_000, frame(0x42, 0, 0))],
};

for (const [what, [code, ...frames]] of Object.entries(faults)) {
  test(`${what} ends the connection`, async () => {
    await using stand = await buildRelayStand();
    const client = await RawConnection.open(stand.socketPath);
    const bystander = await RawConnection.open(stand.socketPath);
    client.send(...frames);
    const goodbye = await client.nextOf(Type.GOAWAY);
    assert.equal(goodbye.payload.readUInt32BE(4), code, goodbye.payload.toString("latin1", 8));
    await client.ended();
    await bystander.roundTrip();
    bystander.close();
    assert.equal(stand.relay.warnings.length, 1);
    assert.doesNotMatch(stand.relay.warnings[0] ?? "", /the relay failed/);
  });
}

test("a flood of resets ends the connection", async () => {
  await using stand = await buildRelayStand();
  const client = await RawConnection.open(stand.socketPath);
  const flood: Buffer[] = [];
  for (let streamId = 1; streamId < 3_000; streamId += 2) {
    flood.push(headers(streamId, request), resetStream(streamId, Code.CANCEL));
  }
  client.send(...flood);
  assert.equal((await client.nextOf(Type.GOAWAY)).payload.readUInt32BE(4), Code.ENHANCE_YOUR_CALM);
});

test("the first frame must be SETTINGS", async () => {
  await using stand = await buildRelayStand();
  for (const first of [frame(Type.PING, 0, 0, Buffer.alloc(8)), headers(1, request), data(1, Buffer.alloc(1))]) {
    const socket = net.connect(stand.socketPath);
    await once(socket, "connect");
    const client = new RawConnection(socket, { side: "client" });
    client.send(preface, first);
    assert.equal((await client.nextOf(Type.GOAWAY)).payload.readUInt32BE(4), Code.PROTOCOL_ERROR);
    await client.ended();
  }
});

test("frames that may be ignored are ignored", async () => {
  await using open = await openStream({});
  const { client, service } = open;
  client.send(
    frame(0xbe, 0xff, 1, Buffer.alloc(100)),
    frame(0xef, 0, 0, Buffer.alloc(10)),
    frame(Type.PRIORITY, 0, 1, Buffer.alloc(5)),
    settings({ 0xf00: 77 }),
    frame(Type.PING, Flags.ACK, 0, Buffer.alloc(8)),
    frame(Type.GOAWAY, 0, 0, Buffer.alloc(8)),
  );
  client.send(data(1, Buffer.from("still here")));
  assert.equal((await service.nextOf(Type.DATA, 1)).payload.toString(), "still here");
  service.send(frame(0xbe, 0xff, 1, Buffer.alloc(100)), frame(Type.PRIORITY, 0, 1, Buffer.alloc(5)));
  service.send(headers(1, responseHead, { end: true }));
  await client.nextOf(Type.HEADERS, 1);
});

test("frames of streams that are over are ignored", async () => {
  await using open = await openStream({});
  const { client, service } = open;
  client.send(resetStream(1, Code.CANCEL), windowUpdate(1, 5), resetStream(1, Code.CANCEL));
  await service.nextOf(Type.RST_STREAM, 1);
  service.send(headers(1, responseHead), data(1, Buffer.alloc(5)), windowUpdate(1, 1), resetStream(1, 0));
  await service.roundTrip();
  await client.roundTrip();
  assert.deepEqual(
    client.frames.filter(({ streamId }) => streamId === 1),
    [],
  );
});

test("DATA of a stream that the client has ended or reset is answered with STREAM_CLOSED, and the others go on", async () => {
  await using open = await openStream({});
  const { client, service } = open;
  client.send(resetStream(1, Code.CANCEL), data(1, Buffer.alloc(5)));
  assert.equal((await client.nextOf(Type.RST_STREAM, 1)).payload.readUInt32BE(), Code.STREAM_CLOSED);
  client.send(headers(3, request, { end: true }));
  await service.nextOf(Type.HEADERS, 3);
  service.send(headers(3, responseHead, { end: true }));
  await client.nextOf(Type.HEADERS, 3);
  client.send(data(3, Buffer.alloc(5)), data(3, Buffer.alloc(5)));
  assert.equal((await client.nextOf(Type.RST_STREAM, 3)).payload.readUInt32BE(), Code.STREAM_CLOSED);
  await client.roundTrip();
  assert.equal(client.frames.filter(({ type }) => type === Type.RST_STREAM).length, 0, "once is enough");
  assert.equal(
    service.frames.some(({ type }) => type === Type.DATA),
    false,
  );
});

/** What makes a request malformed, as the frames of stream 3. */
const malformed: Record<string, readonly Buffer[]> = {
  "an empty path": [headers(3, { ...request, ":path": "" }, { end: true })],
  "no path": [headers(3, without(":path"), { end: true })],
  "no method": [headers(3, without(":method"), { end: true })],
  "no scheme": [headers(3, without(":scheme"), { end: true })],
  "an unknown pseudo-header": [headers(3, { ":test": "x", ...request }, { end: true })],
  "a pseudo-header of responses": [headers(3, { ":status": "200", ...request }, { end: true })],
  "a pseudo-header behind others": [headers(3, { te: "trailers", ...request }, { end: true })],
  "a pseudo-header twice": [
    frame(
      Type.HEADERS,
      Flags.END_HEADERS | Flags.END_STREAM,
      3,
      Buffer.concat([headerBlock({ ":path": "/x" }), block]),
    ),
  ],
  "a name in upper case": [headers(3, { ...request, "X-Test": "1" }, { end: true })],
  "a field of the connection": [headers(3, { ...request, connection: "keep-alive" }, { end: true })],
  "te that is not trailers": [headers(3, { ...request, te: "trailers, deflate" }, { end: true })],
  "a body that is announced and does not come": [headers(3, { ...request, "content-length": "1" }, { end: true })],
  "a body longer than announced": [
    headers(3, { ...request, "content-length": "4" }),
    data(3, Buffer.alloc(3)),
    data(3, Buffer.alloc(2)),
  ],
  "a body shorter than announced": [
    headers(3, { ...request, "content-length": "4" }),
    data(3, Buffer.alloc(3), { end: true }),
  ],
  "a body shorter than announced that ends with trailers": [
    headers(3, { ...request, "content-length": "4" }),
    data(3, Buffer.alloc(3)),
    headers(3, { "x-end": "1" }, { end: true }),
  ],
  "pseudo-headers in trailers": [headers(3, request), headers(3, { ":path": "/" }, { end: true })],
  "HEADERS that depend on themselves": [
    frame(
      Type.HEADERS,
      Flags.END_HEADERS | Flags.END_STREAM | Flags.PRIORITY,
      3,
      Buffer.concat([Buffer.of(0, 0, 0, 3, 255), block]),
    ),
  ],
  "PRIORITY that depends on itself": [headers(3, request), frame(Type.PRIORITY, 0, 3, Buffer.of(128, 0, 0, 3, 7))],
  "WINDOW_UPDATE of 0": [headers(3, request), windowUpdate(3, 0)],
};

function without(name: string): Record<string, string> {
  return Object.fromEntries(Object.entries(request).filter(([field]) => field !== name));
}

for (const [what, frames] of Object.entries(malformed)) {
  test(`${what} is a fault of the stream alone, and never a call`, async () => {
    await using open = await openStream({});
    const { client, service } = open;
    client.send(...frames);
    assert.equal((await client.nextOf(Type.RST_STREAM, 3)).payload.readUInt32BE(), Code.PROTOCOL_ERROR);
    client.send(data(1, Buffer.from("on")));
    await service.nextOf(Type.DATA, 1);
    assert.equal(
      service.frames.some(({ streamId, flags }) => streamId === 3 && (flags & Flags.END_STREAM) !== 0),
      false,
    );
  });
}

test("PRIORITY of a wrong size is a fault of its stream", async () => {
  await using open = await openStream({});
  const { client } = open;
  client.send(headers(3, request), frame(Type.PRIORITY, 0, 3, Buffer.alloc(4)));
  assert.equal((await client.nextOf(Type.RST_STREAM, 3)).payload.readUInt32BE(), Code.FRAME_SIZE_ERROR);
  await client.roundTrip();
});

test("what a client does wrong with a request that has been answered is told too", async () => {
  await using stand = await buildRelayStand();
  const client = await RawConnection.open(stand.socketPath);
  const unknown = grpcRequest("/no.such/Method");
  client.send(headers(1, unknown), windowUpdate(1, 0x7fff_ffff));
  assert.equal((await client.nextOf(Type.RST_STREAM, 1)).payload.readUInt32BE(), Code.FLOW_CONTROL_ERROR);
  client.send(headers(3, { ...unknown, "content-length": "5" }), data(3, Buffer.alloc(2), { end: true }));
  assert.equal((await client.nextOf(Type.RST_STREAM, 3)).payload.readUInt32BE(), Code.PROTOCOL_ERROR);
  client.send(headers(5, unknown), headers(5, { "x-not-the-end": "1" }));
  assert.equal((await client.nextOf(Type.RST_STREAM, 5)).payload.readUInt32BE(), Code.PROTOCOL_ERROR);
  client.send(headers(7, unknown), data(7, Buffer.alloc(2), { end: true }));
  await client.nextOf(Type.HEADERS, 7);
  await delay(150);
  await client.roundTrip();
  assert.equal(client.frames.filter(({ type }) => type === Type.RST_STREAM).length, 0, "a request that has ended");
  client.close();
});

test("an observer sees every call that the relay passes on or refuses, once from beginning to end", async () => {
  const lines: string[] = [];
  const observer: CallObserver = {
    start: (side, rpc, fields) => {
      const name = `${side} ${rpc}`;
      lines.push(`${name} ${fields.find("te") ?? ""}`);
      let [requestBytes, responseBytes] = [0, 0];
      return {
        requestMessage: (sizeBytes) => {
          requestBytes += sizeBytes;
        },
        responseMessage: (sizeBytes) => {
          responseBytes += sizeBytes;
        },
        end: (code) => lines.push(`${name} ${requestBytes} ${responseBytes} ${String(code)}`),
      };
    },
  };
  await using stand = await buildRelayStand({ observer });
  await using server = await RawServer.listen(stand.servicePath);
  const client = await RawConnection.open(stand.socketPath);
  const path = echoPath("unary");
  client.send(headers(1, request), data(1, Buffer.alloc(30), { end: true }), headers(3, request));
  const service = await server.accept();
  await service.nextOf(Type.HEADERS, 3);
  service.send(headers(1, responseHead), data(1, Buffer.alloc(7)), headers(1, { "grpc-status": "5" }, { end: true }));
  await client.next(isEnd);
  client.send(headers(5, grpcRequest("/no.such/Method"), { end: true }));
  await client.next(isEnd);
  client.close();
  await service.ended();
  assert.deepEqual(lines, [
    `relay ${path} trailers`,
    `relay ${path} trailers`,
    `relay ${path} 30 7 5`,
    "relay /no.such/Method trailers",
    "relay /no.such/Method 0 0 12",
    `relay ${path} 0 0 undefined`,
  ]);
});

test("a client may make its header table as large as it was in the beginning", async () => {
  await using open = await openStream({});
  const { client, service } = open;
  const update = Buffer.from("3f613fe11f", "hex");
  client.send(frame(Type.HEADERS, Flags.END_HEADERS | Flags.END_STREAM, 3, Buffer.concat([update, block])));
  const received = await service.nextOf(Type.HEADERS, 3);
  assert.deepEqual(plainHeaders(received.payload), request);
});

test("trailers of a client reach the service", async () => {
  await using open = await openStream({});
  const { client, service } = open;
  client.send(data(1, Buffer.from("x")), headers(1, { "x-end": "1" }, { end: true }));
  const trailers = await service.nextOf(Type.HEADERS, 1);
  assert.equal(trailers.flags & Flags.END_STREAM, Flags.END_STREAM);
  assert.deepEqual(plainHeaders(trailers.payload), { "x-end": "1" });
});

test("more headers or data than there may be are faults of the stream", async () => {
  await using open = await openStream({});
  const { client, service } = open;
  client.send(headers(1, { "x-not-the-end": "1" }));
  assert.equal((await client.nextOf(Type.RST_STREAM, 1)).payload.readUInt32BE(), Code.PROTOCOL_ERROR);
  assert.equal((await service.nextOf(Type.RST_STREAM, 1)).payload.readUInt32BE(), Code.CANCEL);
  client.send(headers(3, request, { end: true }), data(3, Buffer.alloc(1)));
  assert.equal((await client.nextOf(Type.RST_STREAM, 3)).payload.readUInt32BE(), Code.STREAM_CLOSED);
  client.send(headers(5, request, { end: true }), headers(5, { "x-again": "1" }, { end: true }));
  assert.equal((await client.nextOf(Type.RST_STREAM, 5)).payload.readUInt32BE(), Code.STREAM_CLOSED);
});

test("a header list that is too large costs its stream only", async () => {
  await using open = await openStream({});
  const { client, service } = open;
  const small = Object.fromEntries(Array.from({ length: 600 }, (_, index) => [`x${index}`, ""]));
  const large = headerBlock({ ...request, ...small, "x-large": "v".repeat(50_000) });
  const parts = [0, 16_384, 32_768, 49_152].map((at) => large.subarray(at, at + 16_384));
  client.send(
    ...parts.map((part, index) =>
      frame(index === 0 ? Type.HEADERS : Type.CONTINUATION, index === 3 ? Flags.END_HEADERS : 0, 3, part),
    ),
  );
  assert.equal((await client.nextOf(Type.RST_STREAM, 3)).payload.readUInt32BE(), Code.ENHANCE_YOUR_CALM);
  client.send(data(1, Buffer.from("on")));
  await service.nextOf(Type.DATA, 1);
});

test("a header block in many frames, with padding and priority, arrives whole", async () => {
  await using open = await openStream({});
  const { client, service } = open;
  const fields = { ...request, "x-large": "v".repeat(30_000) };
  const whole = headerBlock(fields);
  client.send(
    frame(
      Type.HEADERS,
      Flags.PADDED | Flags.PRIORITY | Flags.END_STREAM,
      3,
      Buffer.concat([Buffer.of(3), Buffer.alloc(5), whole.subarray(0, 100), Buffer.alloc(3)]),
    ),
    frame(Type.CONTINUATION, 0, 3, whole.subarray(100, 15_000)),
    frame(Type.CONTINUATION, Flags.END_HEADERS, 3, whole.subarray(15_000)),
  );
  const first = await service.nextOf(Type.HEADERS, 3);
  assert.equal(first.flags, Flags.END_STREAM);
  const second = await service.nextOf(Type.CONTINUATION, 3);
  assert.equal(second.flags, Flags.END_HEADERS);
  assert.deepEqual(plainHeaders(Buffer.concat([first.payload, second.payload])), fields);
});

test("a client may use its header table before it knows better; the service sees none of it", async () => {
  await using stand = await buildRelayStand();
  await using server = await RawServer.listen(stand.servicePath, { settings: { [Setting.HEADER_TABLE_SIZE]: 0 } });
  const socket = net.connect(stand.socketPath);
  await once(socket, "connect");
  const client = new RawConnection(socket, { side: "client", acknowledges: false });
  const path = echoPath("unary");
  const inserted = Buffer.concat([
    Buffer.from("8386", "hex"),
    Buffer.from([0x44, path.length]),
    Buffer.from(path),
    Buffer.from([0x40, 1, 0x61, 1, 0x62]),
  ]);
  client.send(
    preface,
    settings(),
    frame(Type.HEADERS, Flags.END_HEADERS | Flags.END_STREAM, 1, inserted),
    frame(Type.HEADERS, Flags.END_HEADERS | Flags.END_STREAM, 3, Buffer.from("8386bfbe", "hex")),
  );
  await client.nextOf(Type.SETTINGS);
  client.send(frame(Type.SETTINGS, Flags.ACK, 0));
  const reset = Buffer.concat([Buffer.from("208386", "hex"), Buffer.from([0x04, path.length]), Buffer.from(path)]);
  client.send(frame(Type.HEADERS, Flags.END_HEADERS | Flags.END_STREAM, 5, reset));
  const service = await server.accept();
  const spelt = Buffer.concat([Buffer.from([0x04, path.length]), Buffer.from(path)]).toString("hex");
  const first = (await service.nextOf(Type.HEADERS, 1)).payload.toString("hex");
  const second = (await service.nextOf(Type.HEADERS, 3)).payload.toString("hex");
  const third = (await service.nextOf(Type.HEADERS, 5)).payload.toString("hex");
  const blocks = [`8386${spelt}0001610162`, `8386${spelt}0001610162`, `8386${spelt}`];
  assert.deepEqual(
    [first, second, third].map((seen) => seen.replace(/^20/, "")),
    blocks,
  );
  assert.equal([first, second, third].filter((seen) => seen.startsWith("20")).length, 1, "one update to 0 is owed");
  client.close();
});

test("a service that uses its header table is spelt out for the client, who is owed an update too", async () => {
  await using open = await openStream({ client: { [Setting.HEADER_TABLE_SIZE]: 100 } });
  const { client, service } = open;
  service.send(
    frame(Type.HEADERS, Flags.END_HEADERS, 1, Buffer.from("884001610162", "hex")),
    frame(Type.HEADERS, Flags.END_HEADERS | Flags.END_STREAM, 1, Buffer.from("be", "hex")),
  );
  assert.equal((await client.nextOf(Type.HEADERS, 1)).payload.toString("hex"), "20880001610162");
  assert.equal((await client.nextOf(Type.HEADERS, 1)).payload.toString("hex"), "0001610162");
});

test("the streams of a service that allows few wait their turn", async () => {
  await using open = await openStream({ service: { [Setting.MAX_CONCURRENT_STREAMS]: 2 } });
  const { client, service } = open;
  client.send(...[3, 5, 7].map((streamId) => headers(streamId, request, { end: true })));
  await service.nextOf(Type.HEADERS, 3);
  await client.roundTrip();
  await service.roundTrip();
  assert.equal(service.frames.filter(({ type }) => type === Type.HEADERS).length, 0);
  service.send(headers(3, responseHead, { end: true }));
  await service.nextOf(Type.HEADERS, 5);
  client.send(resetStream(5, Code.CANCEL));
  await service.nextOf(Type.HEADERS, 7);
});

test("a client may not have more streams than the relay said", async () => {
  await using stand = await buildRelayStand();
  const socket = net.connect(stand.socketPath);
  await once(socket, "connect");
  const client = new RawConnection(socket, { side: "client" });
  client.send(preface, settings());
  const { payload } = await client.nextOf(Type.SETTINGS);
  let allowed = 0;
  for (let at = 0; at < payload.length; at += 6) {
    allowed = payload.readUInt16BE(at) === Setting.MAX_CONCURRENT_STREAMS ? payload.readUInt32BE(at + 2) : allowed;
  }
  assert.ok(allowed >= 1_000);
  for (let index = 0; index < allowed; index++) {
    client.send(headers(2 * index + 1, request));
  }
  client.send(headers(2 * allowed + 1, request));
  assert.equal((await client.nextOf(Type.RST_STREAM)).streamId, 2 * allowed + 1);
  client.send(resetStream(1, Code.CANCEL), headers(2 * allowed + 3, request));
  await client.roundTrip();
  assert.deepEqual(
    client.frames.filter(({ type }) => type === Type.RST_STREAM),
    [],
  );
  client.close();
});

test("a service that breaks the rules loses its connection; its calls fail, the client goes on", async () => {
  const broken: Record<string, Buffer> = {
    PUSH_PROMISE: frame(Type.PUSH_PROMISE, Flags.END_HEADERS, 1, Buffer.concat([word(2), block])),
    "bad HPACK": frame(Type.HEADERS, Flags.END_HEADERS, 1, Buffer.from("ff", "hex")),
    "a frame that is too large": frame(Type.DATA, 0, 1, Buffer.alloc(20_000)),
  };
  for (const [what, bytes] of Object.entries(broken)) {
    await using open = await openStream({});
    const { client, service, stand } = open;
    service.send(bytes);
    const end = await client.next(isEnd);
    assert.ok(end.payload.includes(Buffer.from("grpc-status\x0214")), what);
    await service.ended();
    await client.roundTrip();
    assert.match(stand.relay.warnings.join(), /a service broke the rules/, what);
  }
});

test("a service's reset reaches the client, behind an answer that still waits", async () => {
  await using open = await openStream({ client: { [Setting.INITIAL_WINDOW_SIZE]: 50 } });
  const { client, service } = open;
  service.send(resetStream(1, Code.REFUSED_STREAM));
  assert.equal((await client.nextOf(Type.RST_STREAM, 1)).payload.readUInt32BE(), Code.REFUSED_STREAM);
  client.send(headers(3, grpcRequest(echoPath("chat"))));
  await service.nextOf(Type.HEADERS, 3);
  client.send(settings({ [Setting.INITIAL_WINDOW_SIZE]: 10 }));
  await client.roundTrip();
  service.send(headers(3, responseHead), data(3, Buffer.alloc(50)), headers(3, { "grpc-status": "0" }, { end: true }));
  service.send(resetStream(3, Code.NO_ERROR));
  await service.roundTrip();
  await client.roundTrip();
  assert.equal(
    client.frames.some(({ type }) => type === Type.RST_STREAM),
    false,
  );
  client.send(windowUpdate(3, 40));
  await client.readData(3, 50);
  await client.next(isEnd);
  assert.equal((await client.nextOf(Type.RST_STREAM, 3)).payload.readUInt32BE(), Code.NO_ERROR);
});

test("a client that gets a call's answer before it ended its side is told to stop", async () => {
  await using stand = await buildRelayStand();
  const client = await RawConnection.open(stand.socketPath);
  client.send(headers(1, grpcRequest("/no.such/Method")));
  await client.next(isEnd);
  assert.equal((await client.nextOf(Type.RST_STREAM, 1)).payload.readUInt32BE(), Code.NO_ERROR);
  client.close();
});

test("a session works when every byte comes alone", async () => {
  await using stand = await buildRelayStand();
  await using server = await serveEcho(stand);
  void server;
  const socket = net.connect(stand.socketPath);
  await once(socket, "connect");
  const client = new RawConnection(socket, { side: "client", acknowledges: false });
  const session = Buffer.concat([
    preface,
    settings({ [Setting.INITIAL_WINDOW_SIZE]: 1_000 }),
    frame(Type.SETTINGS, Flags.ACK, 0),
    headers(1, request),
    data(1, grpcMessage(Buffer.from("0a0568656c6c6f", "hex")), { end: true }),
    frame(Type.PING, 0, 0, Buffer.from("pingpong")),
  ]);
  for (const octet of session) {
    socket.write(Buffer.of(octet));
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.equal((await client.readData(1, 12)).subarray(7).toString(), "hello");
  await client.next(isEnd);
  client.close();
});

function isEnd({ type, flags }: RawFrame): boolean {
  return type === Type.HEADERS && (flags & Flags.END_STREAM) !== 0;
}

test("resets that the relay allows do not cost the client its other calls at a service", async () => {
  await using stand = await buildRelayStand();
  const held = Promise.withResolvers<void>();
  await using server = await serveEcho(stand, {
    unary: async (message) => {
      await held.promise;
      return { value: message.value };
    },
  });
  void server;
  const client = await RawConnection.open(stand.socketPath);
  const call = data(1, grpcMessage(Buffer.alloc(0)), { end: true });
  client.send(headers(1, request), call);
  await client.roundTrip();
  let streamId = 3;
  // Node's own limit is a burst of 1,000 and then 33 a second.
  for (let round = 0; round < 12; round++) {
    for (let index = 0; index < 100; index++, streamId += 2) {
      client.send(headers(streamId, request), resetStream(streamId, Code.CANCEL));
    }
    await delay(round < 9 ? 10 : 700);
  }
  held.resolve();
  assert.equal((await client.readData(1, 5)).length, 5, "a message, not only a status");
  client.close();
});
