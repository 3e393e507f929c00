import assert from "node:assert/strict";
import test from "node:test";
import { echoPath } from "../kit/echo-service.ts";
import {
  data,
  Flags,
  frame,
  grpcRequest,
  headers,
  RawConnection,
  type RawFrame,
  RawServer,
  resetStream,
  Setting,
  settings,
  Type,
  windowUpdate,
} from "../kit/raw-http2.ts";
import { buildRelayStand, openStream } from "../kit/relay-stand.ts";

const defaultWindow = 65_535;
/** What the relay takes on one connection before it gives credit back. */
const connectionWindow = 4 * 1024 * 1024;
const responseHead = { ":status": "200", "content-type": "application/grpc" };

/** DATA frames of at most 16 KiB. */
function inFrames(streamId: number, bytes: Buffer): Buffer[] {
  const frames: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += 16_384) {
    frames.push(data(streamId, bytes.subarray(at, at + 16_384)));
  }
  return frames;
}

function counted(sizeBytes: number): Buffer {
  const bytes = Buffer.alloc(sizeBytes);
  for (let at = 0; at + 4 <= sizeBytes; at += 4) {
    bytes.writeUInt32BE(at, at);
  }
  return bytes;
}

/** Sum of the WINDOW_UPDATEs of a stream, or of the connection, that have arrived and were not taken. */
function takeCredit(connection: RawConnection, streamId: number): number {
  let credit = 0;
  for (let index = connection.frames.length - 1; index >= 0; index--) {
    const found = connection.frames[index];
    if (found?.type === Type.WINDOW_UPDATE && found.streamId === streamId) {
      credit += found.payload.readUInt32BE();
      connection.frames.splice(index, 1);
    }
  }
  return credit;
}

/** Sum of the DATA of a stream that has arrived, which stays. */
function arrivedBytes(connection: RawConnection, streamId: number): number {
  return connection.frames
    .filter((found) => found.type === Type.DATA && found.streamId === streamId)
    .reduce((sum, { payload }) => sum + payload.length, 0);
}

/** Waits until everything that one end sent has been handled and has reached the other end. */
async function settle(from: RawConnection, to: RawConnection): Promise<void> {
  await from.roundTrip();
  await to.roundTrip();
}

test("a service learns the window of the client, and the client gets no more than the service has", async () => {
  await using stand = await buildRelayStand();
  await using server = await RawServer.listen(stand.servicePath, {
    settings: { [Setting.INITIAL_WINDOW_SIZE]: 1_000_000 },
  });
  const client = await RawConnection.open(stand.socketPath, { [Setting.INITIAL_WINDOW_SIZE]: 12_345 });
  client.send(headers(1, grpcRequest(echoPath("chat"))));
  const service = await server.accept();
  const received = await service.nextOf(Type.SETTINGS);
  const values = new Map<number, number>();
  for (let at = 0; at < received.payload.length; at += 6) {
    values.set(received.payload.readUInt16BE(at), received.payload.readUInt32BE(at + 2));
  }
  assert.equal(values.get(Setting.INITIAL_WINDOW_SIZE), 12_345);
  assert.equal(values.get(Setting.HEADER_TABLE_SIZE), 0);
  assert.equal(values.get(Setting.ENABLE_PUSH), 0);
  await service.nextOf(Type.HEADERS, 1);
  await settle(service, client);
  assert.equal(takeCredit(client, 1), 0, "not before the client sends");
  client.send(data(1, Buffer.alloc(10)));
  await service.nextOf(Type.DATA, 1);
  await settle(service, client);
  assert.equal(takeCredit(client, 1), 1_000_000 - defaultWindow);
});

test("a window that a service raises later reaches the client as an update of the stream", async () => {
  await using open = await openStream({});
  const { client, service } = open;
  service.send(windowUpdate(0, 1_000_000));
  client.send(...inFrames(1, counted(defaultWindow)));
  await service.readData(1, defaultWindow);
  await settle(service, client);
  assert.equal(takeCredit(client, 1), 0);
  service.send(settings({ [Setting.INITIAL_WINDOW_SIZE]: defaultWindow + 40_000 }));
  await settle(service, client);
  assert.equal(takeCredit(client, 1), 40_000);
  client.send(...inFrames(1, counted(40_000)));
  assert.ok((await service.readData(1, 40_000)).equals(counted(40_000)));
});

test("what a client may no longer send, since the service lowered its window, waits in the relay", async () => {
  await using open = await openStream({ service: { [Setting.INITIAL_WINDOW_SIZE]: 100_000 } });
  const { client, service } = open;
  const bytes = counted(100_000);
  service.send(windowUpdate(0, 1_000_000));
  client.send(data(1, bytes.subarray(0, 1_000)));
  await service.readData(1, 1_000);
  await settle(service, client);
  assert.equal(takeCredit(client, 1), 100_000 - defaultWindow);
  service.send(settings({ [Setting.INITIAL_WINDOW_SIZE]: 40_000 }));
  await service.roundTrip();
  client.send(...inFrames(1, bytes.subarray(1_000)));
  await settle(client, service);
  assert.equal(arrivedBytes(service, 1), 39_000);
  service.send(windowUpdate(1, 50_000));
  await settle(service, client);
  assert.equal(arrivedBytes(service, 1), 89_000);
  assert.equal(takeCredit(client, 1), 0, "the client has not even used what it had");
  service.send(windowUpdate(1, 30_000));
  await settle(service, client);
  assert.ok((await service.readData(1, 99_000)).equals(bytes.subarray(1_000)));
  assert.equal(takeCredit(client, 1), 20_000);
});

test("a service with a small window from the beginning gets what it allows", async () => {
  await using open = await openStream({ service: { [Setting.INITIAL_WINDOW_SIZE]: 10 } });
  const { client, service } = open;
  const bytes = counted(defaultWindow);
  client.send(...inFrames(1, bytes), data(1, Buffer.alloc(0), { end: true }));
  await settle(client, service);
  assert.equal(arrivedBytes(service, 1), 10);
  service.send(windowUpdate(1, 5), windowUpdate(1, defaultWindow - 15));
  assert.ok((await service.readData(1, defaultWindow)).equals(bytes));
  assert.equal(takeCredit(client, 1), 0);
});

test("a window that a client raises later reaches the service, for streams that are open and for new ones", async () => {
  await using open = await openStream({ client: { [Setting.INITIAL_WINDOW_SIZE]: 100 } });
  const { client, service } = open;
  service.send(headers(1, responseHead), data(1, Buffer.alloc(100)));
  await client.readData(1, 100);
  client.send(settings({ [Setting.INITIAL_WINDOW_SIZE]: 5_100 }));
  const announced = await service.next(({ type, flags }) => type === Type.SETTINGS && (flags & Flags.ACK) === 0);
  assert.equal(announced.payload.readUInt32BE(2), 5_100);
  service.send(data(1, counted(5_000)));
  assert.ok((await client.readData(1, 5_000)).equals(counted(5_000)));
  client.send(headers(3, grpcRequest(echoPath("chat"))));
  await service.nextOf(Type.HEADERS, 3);
  service.send(headers(3, responseHead), data(3, counted(5_100)));
  assert.equal((await client.readData(3, 5_100)).length, 5_100);
});

test("what a service had already sent when the client lowered its window waits in the relay", async () => {
  await using open = await openStream({ client: { [Setting.INITIAL_WINDOW_SIZE]: 50_000 } });
  const { client, service } = open;
  const bytes = counted(50_000);
  service.send(headers(1, responseHead), data(1, bytes.subarray(0, 10_000)));
  await client.readData(1, 10_000);
  client.send(settings({ [Setting.INITIAL_WINDOW_SIZE]: 20_000 }));
  await client.roundTrip();
  service.send(...inFrames(1, bytes.subarray(10_000)), headers(1, { "grpc-status": "0" }, { end: true }));
  await settle(service, client);
  assert.equal(arrivedBytes(client, 1), 10_000, "20,000 less what was sent before");
  client.send(windowUpdate(1, 29_000));
  await client.roundTrip();
  assert.equal(arrivedBytes(client, 1), 39_000);
  assert.equal(client.frames.some(isEnd), false, "trailers wait behind data");
  client.send(settings({ [Setting.INITIAL_WINDOW_SIZE]: 21_000 }));
  assert.ok((await client.readData(1, 40_000)).equals(bytes.subarray(10_000)));
  await client.next(isEnd);
});

test("a client window of 0 that is opened stream by stream", async () => {
  await using open = await openStream({ client: { [Setting.INITIAL_WINDOW_SIZE]: 0 } });
  const { client, service } = open;
  client.send(windowUpdate(1, 70_000));
  assert.equal((await service.nextOf(Type.WINDOW_UPDATE, 1)).payload.readUInt32BE(), 70_000);
  client.send(windowUpdate(0, 70_000));
  service.send(headers(1, responseHead), ...inFrames(1, counted(70_000)));
  assert.ok((await client.readData(1, 70_000)).equals(counted(70_000)));
});

test("a client that reads one stream only still gets the heads of the others, and their data in turns afterwards", async () => {
  await using open = await openStream({ client: { [Setting.INITIAL_WINDOW_SIZE]: 1_000_000 } });
  const { client, service } = open;
  client.send(headers(3, grpcRequest(echoPath("chat"))));
  await service.nextOf(Type.HEADERS, 3);
  service.send(headers(1, responseHead), ...inFrames(1, counted(400_000)));
  service.send(headers(3, responseHead), ...inFrames(3, counted(200_000)));
  client.send(headers(5, grpcRequest("/flotilla.test.v1.Echo/Nothing"), { end: true }));
  await settle(service, client);
  assert.equal(arrivedBytes(client, 1), defaultWindow, "the window of the connection");
  assert.equal(arrivedBytes(client, 3), 0);
  assert.ok(client.frames.some(({ type, streamId }) => type === Type.HEADERS && streamId === 3));
  assert.ok(client.frames.some(({ type, streamId }) => type === Type.HEADERS && streamId === 5));
  client.send(windowUpdate(0, 200_000));
  await client.roundTrip();
  const first = arrivedBytes(client, 1) - defaultWindow;
  const second = arrivedBytes(client, 3);
  assert.equal(first + second, 200_000);
  assert.ok(first >= 65_536 && second >= 65_536, `${first} and ${second}`);
  client.send(windowUpdate(0, 1_000_000));
  assert.ok((await client.readData(1, 400_000)).equals(counted(400_000)));
  assert.ok((await client.readData(3, 200_000)).equals(counted(200_000)));
});

test("a service whose connection window is full does not hold up other streams' heads and ends", async () => {
  await using open = await openStream({ service: { [Setting.INITIAL_WINDOW_SIZE]: 1_000_000 } });
  const { client, service } = open;
  client.send(data(1, Buffer.alloc(1)));
  await client.nextOf(Type.WINDOW_UPDATE, 1);
  client.send(...inFrames(1, counted(300_000)));
  client.send(headers(3, grpcRequest(echoPath("chat")), { end: true }));
  await service.readData(1, defaultWindow);
  await service.nextOf(Type.HEADERS, 3);
  service.send(headers(3, { ...responseHead, "grpc-status": "0" }, { end: true }));
  await client.nextOf(Type.HEADERS, 3);
  service.send(windowUpdate(0, 500_000));
  assert.equal((await service.readData(1, 300_001 - defaultWindow)).length, 300_001 - defaultWindow);
});

test("credit for the connection comes back as data leaves the relay", async () => {
  await using open = await openStream({ service: { [Setting.INITIAL_WINDOW_SIZE]: 0x7fffffff } });
  const { client, service } = open;
  service.send(windowUpdate(0, 0x7fff0000 - defaultWindow));
  client.send(data(1, Buffer.alloc(1)));
  await client.nextOf(Type.WINDOW_UPDATE, 1);
  let credit = connectionWindow;
  let sentBytes = 0;
  while (sentBytes < 4 * connectionWindow) {
    credit += takeCredit(client, 0);
    const sizeBytes = Math.min(credit, 1_000_000);
    client.send(...inFrames(1, Buffer.alloc(sizeBytes)));
    credit -= sizeBytes;
    sentBytes += sizeBytes;
    await service.readData(1, sizeBytes);
    await client.roundTrip();
  }
});

test("data that is thrown away gives its credit back", async () => {
  await using open = await openStream({ service: { [Setting.INITIAL_WINDOW_SIZE]: 0 } });
  const { client } = open;
  let streamId = 3;
  for (let sentBytes = 0; sentBytes < 3 * connectionWindow; sentBytes += 60_000) {
    client.send(headers(streamId, grpcRequest(echoPath("chat"))));
    client.send(...inFrames(streamId, Buffer.alloc(60_000)), resetStream(streamId, 8));
    streamId += 2;
  }
  await client.roundTrip();
  assert.ok(takeCredit(client, 0) >= 2 * connectionWindow);
});

test("data for streams that are over gives its credit back", async () => {
  await using open = await openStream({});
  const { client, service } = open;
  service.send(headers(1, { ...responseHead, "grpc-status": "0" }, { end: true }), resetStream(1, 0));
  await client.nextOf(Type.RST_STREAM, 1);
  for (let sentBytes = 0; sentBytes < 2 * connectionWindow; sentBytes += 1_000_000) {
    client.send(...inFrames(1, Buffer.alloc(1_000_000)));
    await client.roundTrip();
  }
  assert.ok(takeCredit(client, 0) >= connectionWindow);
});

test("a client that does not read makes the relay hold no more than a connection window", async () => {
  const wide = 0x7fffffff;
  await using open = await openStream({ client: { [Setting.INITIAL_WINDOW_SIZE]: wide } });
  const { client, service } = open;
  client.send(windowUpdate(0, wide - defaultWindow));
  await client.roundTrip();
  client.socket.pause();
  service.send(headers(1, responseHead));
  const totalBytes = 5 * connectionWindow;
  let credit = connectionWindow;
  let sentBytes = 0;
  const push = async (): Promise<void> => {
    // As long as two round trips bring credit, the socket of the client still takes something.
    for (let isFull = false; !isFull && sentBytes < totalBytes; ) {
      const sizeBytes = Math.min(credit, totalBytes - sentBytes);
      service.send(...inFrames(1, Buffer.alloc(sizeBytes, 1)));
      sentBytes += sizeBytes;
      credit -= sizeBytes;
      await service.roundTrip();
      await service.roundTrip();
      const more = takeCredit(service, 0);
      credit += more;
      isFull = more === 0;
    }
  };
  await push();
  assert.ok(sentBytes < connectionWindow + 3_000_000, `${sentBytes} bytes were taken`);
  client.socket.resume();
  let readBytes = 0;
  while (readBytes < totalBytes) {
    await push();
    readBytes += (await client.readData(1, 1)).length;
  }
});

test("a service that does not read makes the relay hold no more than a connection window", async () => {
  await using open = await openStream({ service: { [Setting.INITIAL_WINDOW_SIZE]: 0x7fffffff } });
  const { client, service } = open;
  service.send(windowUpdate(0, 0x7fffffff - defaultWindow));
  client.send(data(1, Buffer.alloc(1)));
  await client.nextOf(Type.WINDOW_UPDATE, 1);
  await service.roundTrip();
  service.socket.pause();
  let credit = connectionWindow - 1;
  let sentBytes = 1;
  for (let isFull = false; !isFull; ) {
    client.send(...inFrames(1, Buffer.alloc(credit)));
    sentBytes += credit;
    await client.roundTrip();
    await client.roundTrip();
    credit = takeCredit(client, 0);
    isFull = credit === 0;
  }
  assert.ok(sentBytes < connectionWindow + 3_000_000, `${sentBytes} bytes were taken`);
  client.send(headers(3, grpcRequest("/flotilla.test.v1.Echo/Nothing"), { end: true }));
  await client.nextOf(Type.HEADERS, 3);
  service.socket.resume();
  await service.readData(1, sentBytes);
});

test("a held stream takes what the first window allows and no more", async () => {
  await using stand = await buildRelayStand();
  const client = await RawConnection.open(stand.socketPath);
  const bytes = counted(defaultWindow);
  client.send(headers(1, grpcRequest(echoPath("chat"))), ...inFrames(1, bytes));
  await client.roundTrip();
  assert.equal(takeCredit(client, 1), 0);
  assert.equal(takeCredit(client, 0), 0);
  await using server = await RawServer.listen(stand.servicePath, {
    settings: { [Setting.INITIAL_WINDOW_SIZE]: 200_000 },
  });
  const service = await server.accept();
  assert.ok((await service.readData(1, defaultWindow)).equals(bytes));
  await service.roundTrip();
  await client.roundTrip();
  assert.equal(takeCredit(client, 1), 200_000 - defaultWindow);
  client.close();
});

test("the answer to a repeatable call comes when it is complete, large, or at the end of its window", async () => {
  await using open = await openStream({ client: { [Setting.INITIAL_WINDOW_SIZE]: 30_000 } });
  const { client, service } = open;
  const call = (streamId: number): Buffer => headers(streamId, grpcRequest(echoPath("repeat")), { end: true });
  client.send(call(3), call(5), call(7), call(9));
  await service.nextOf(Type.HEADERS, 9);
  for (const streamId of [3, 5, 7, 9]) {
    service.send(headers(streamId, responseHead), data(streamId, counted(1_000)));
  }
  await settle(service, client);
  assert.deepEqual(
    client.frames.filter(({ streamId }) => streamId > 1),
    [],
  );
  service.send(headers(3, { "grpc-status": "0" }, { end: true }));
  assert.equal((await client.nextOf(Type.HEADERS)).streamId, 3);
  assert.ok((await client.readData(3, 1_000)).equals(counted(1_000)));
  await client.next(isEnd);
  service.send(data(5, counted(16_000)));
  assert.equal((await client.nextOf(Type.HEADERS)).streamId, 5);
  assert.equal((await client.readData(5, 17_000)).length, 17_000);
  client.send(settings({ [Setting.INITIAL_WINDOW_SIZE]: 1_000 }));
  const opened = [await client.nextOf(Type.HEADERS), await client.nextOf(Type.HEADERS)];
  assert.deepEqual(
    opened.map(({ streamId }) => streamId),
    [7, 9],
  );
  client.send(call(11));
  await service.nextOf(Type.HEADERS, 11);
  service.send(headers(11, responseHead), data(11, counted(1_000)));
  assert.equal((await client.nextOf(Type.HEADERS)).streamId, 11);
  client.send(windowUpdate(11, 5));
  assert.equal((await service.nextOf(Type.WINDOW_UPDATE, 11)).payload.readUInt32BE(), 5);
});

test("no more answers are held back than the window of the connection bears", async () => {
  await using open = await openStream({ client: { [Setting.INITIAL_WINDOW_SIZE]: 1_000_000 } });
  const { client, service } = open;
  client.send(windowUpdate(0, 100_000_000));
  const streams = Array.from({ length: 500 }, (_, index) => 2 * index + 3);
  client.send(...streams.map((streamId) => headers(streamId, grpcRequest(echoPath("repeat")), { end: true })));
  await service.nextOf(Type.HEADERS, streams.at(-1));
  let credit = connectionWindow;
  for (const streamId of streams) {
    while (credit < 16_000) {
      await service.roundTrip();
      credit += takeCredit(service, 0);
    }
    service.send(headers(streamId, responseHead), data(streamId, Buffer.alloc(16_000)));
    credit -= 16_000;
  }
  service.send(...streams.map((streamId) => headers(streamId, { "grpc-status": "0" }, { end: true })));
  for (const streamId of streams) {
    await client.readData(streamId, 16_000);
  }
});

test("padding is not forwarded and does not use up windows", async () => {
  await using open = await openStream({});
  const { client, service } = open;
  const padded = Buffer.concat([Buffer.of(200), Buffer.from("payload"), Buffer.alloc(200)]);
  client.send(frame(Type.DATA, Flags.PADDED, 1, padded));
  assert.equal((await service.nextOf(Type.DATA, 1)).payload.toString(), "payload");
  assert.equal((await client.nextOf(Type.WINDOW_UPDATE, 1)).payload.readUInt32BE(), 201);
  service.send(headers(1, responseHead), frame(Type.DATA, Flags.PADDED | Flags.END_STREAM, 1, padded));
  const answer = await client.nextOf(Type.DATA, 1);
  assert.equal(answer.payload.toString(), "payload");
  assert.equal(answer.flags, Flags.END_STREAM);
});

test("a client that sends more than a stream's window loses the stream, not the connection", async () => {
  await using open = await openStream({ service: { [Setting.INITIAL_WINDOW_SIZE]: 0 } });
  const { client, service } = open;
  client.send(...inFrames(1, Buffer.alloc(defaultWindow + 1)));
  assert.equal((await client.nextOf(Type.RST_STREAM, 1)).payload.readUInt32BE(), 3);
  assert.equal((await service.nextOf(Type.RST_STREAM, 1)).payload.readUInt32BE(), 8);
  await client.roundTrip();
});

test("a client that sends more than the connection's window loses the connection", async () => {
  await using stand = await buildRelayStand();
  const client = await RawConnection.open(stand.socketPath);
  for (let streamId = 1; streamId <= 2 * 65 + 1; streamId += 2) {
    client.send(headers(streamId, grpcRequest(echoPath("chat"))), ...inFrames(streamId, Buffer.alloc(defaultWindow)));
  }
  assert.equal((await client.nextOf(Type.GOAWAY)).payload.readUInt32BE(4), 3);
  await client.ended();
});

test("windows that grow too large are faults of the stream or of the connection", async () => {
  await using open = await openStream({});
  const { client } = open;
  client.send(windowUpdate(1, 0x7fffffff));
  assert.equal((await client.nextOf(Type.RST_STREAM, 1)).payload.readUInt32BE(), 3);
  client.send(headers(3, grpcRequest(echoPath("chat"))), windowUpdate(3, 0));
  assert.equal((await client.nextOf(Type.RST_STREAM, 3)).payload.readUInt32BE(), 1);
  client.send(windowUpdate(0, 0x7fffffff));
  assert.equal((await client.nextOf(Type.GOAWAY)).payload.readUInt32BE(4), 3);
});

test("a settings change that makes a stream's window too large ends the connection", async () => {
  await using open = await openStream({});
  const { client } = open;
  client.send(
    windowUpdate(1, 0x7fffffff - defaultWindow),
    settings({ [Setting.INITIAL_WINDOW_SIZE]: defaultWindow + 1 }),
  );
  assert.equal((await client.nextOf(Type.GOAWAY)).payload.readUInt32BE(4), 3);
});

function isEnd({ type, flags }: RawFrame): boolean {
  return type === Type.HEADERS && (flags & Flags.END_STREAM) !== 0;
}
