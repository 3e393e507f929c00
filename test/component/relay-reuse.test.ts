import assert from "node:assert/strict";
import test from "node:test";
import { echoPath } from "../kit/echo-service.ts";
import {
  data,
  Flags,
  frame,
  grpcMessage,
  grpcRequest,
  headers,
  RawConnection,
  RawServer,
  Setting,
  Type,
} from "../kit/raw-http2.ts";
import { buildRelayStand, type RelayStand } from "../kit/relay-stand.ts";

const request = grpcRequest(echoPath("unary"));
const responseHead = { ":status": "200", "content-type": "application/grpc" };
const trailers = { "grpc-status": "0" };
const message = grpcMessage(Buffer.from("payload"));
const goaway = frame(Type.GOAWAY, 0, 0, Buffer.from("0000000100000000", "hex"));

/** Connects to the relay and sends a whole call on each of some streams. */
async function callFrom(
  { socketPath }: RelayStand,
  streamIds: readonly number[],
  settings: Readonly<Record<number, number>> = {},
): Promise<RawConnection> {
  const client = await RawConnection.open(socketPath, settings);
  for (const id of streamIds) {
    client.send(headers(id, request), data(id, message, { end: true }));
  }
  return client;
}

/** Answers a call, as the service. */
function answer(service: RawConnection, streamId: number): void {
  service.send(headers(streamId, responseHead), data(streamId, message), headers(streamId, trailers, { end: true }));
}

/** Waits for the whole answer to a call, and goes. */
async function leave(client: RawConnection, streamId: number): Promise<void> {
  await client.next((found) => found.streamId === streamId && (found.flags & Flags.END_STREAM) !== 0);
  client.close();
}

test("a client whose calls have ended leaves its connection to the next, whose stream ids go on above", async () => {
  await using stand = await buildRelayStand();
  await using server = await RawServer.listen(stand.servicePath);
  const first = await callFrom(stand, [1, 3]);
  const service = await server.accept();
  for (const id of [1, 3]) {
    await service.nextOf(Type.HEADERS, id);
    answer(service, id);
  }
  await leave(first, 3);
  await service.roundTrip();
  for (const [id, expectedId] of [
    [1, 5],
    [7, 13],
  ] as const) {
    const next = await callFrom(stand, [id]);
    const opened = await service.nextOf(Type.HEADERS);
    assert.equal(opened.streamId, expectedId);
    assert.deepEqual(await service.readData(expectedId, message.length), message);
    answer(service, expectedId);
    assert.deepEqual(await next.readData(id, message.length), message);
    await leave(next, id);
    await service.roundTrip();
  }
});

test("a call under way ends with its client, and so does its connection", async () => {
  await using stand = await buildRelayStand();
  await using server = await RawServer.listen(stand.servicePath);
  const first = await callFrom(stand, [1, 3]);
  const service = await server.accept();
  await service.nextOf(Type.HEADERS, 3);
  answer(service, 3);
  await leave(first, 3);
  await service.ended();
  const next = await callFrom(stand, [1]);
  const other = await server.accept();
  await other.nextOf(Type.HEADERS, 1);
  answer(other, 1);
  await leave(next, 1);
});

test("two clients at a time have two connections", async () => {
  await using stand = await buildRelayStand();
  await using server = await RawServer.listen(stand.servicePath);
  const one = await callFrom(stand, [1]);
  const serviceOfOne = await server.accept();
  await serviceOfOne.nextOf(Type.HEADERS, 1);
  answer(serviceOfOne, 1);
  const other = await callFrom(stand, [1]);
  const serviceOfOther = await server.accept();
  await serviceOfOther.nextOf(Type.HEADERS, 1);
  answer(serviceOfOther, 1);
  await leave(one, 1);
  await leave(other, 1);
});

test("a service that ends, or wants no more, while nobody calls is connected to anew", async () => {
  await using stand = await buildRelayStand();
  await using server = await RawServer.listen(stand.servicePath);
  for (const end of [(service: RawConnection) => service.close(), (service: RawConnection) => service.send(goaway)]) {
    const client = await callFrom(stand, [1]);
    const service = await server.accept();
    await service.nextOf(Type.HEADERS, 1);
    answer(service, 1);
    await leave(client, 1);
    await service.roundTrip();
    end(service);
    await service.ended();
  }
});

test("the next client's window is announced where it is another", async () => {
  await using stand = await buildRelayStand();
  await using server = await RawServer.listen(stand.servicePath);
  const first = await callFrom(stand, [1]);
  const service = await server.accept();
  await service.nextOf(Type.HEADERS, 1);
  answer(service, 1);
  await leave(first, 1);
  await service.roundTrip();
  const next = await callFrom(stand, [1], { [Setting.INITIAL_WINDOW_SIZE]: 1_000_000 });
  const announced = await service.next(({ type, flags }) => type === Type.SETTINGS && (flags & Flags.ACK) === 0);
  assert.equal(announced.payload.readUInt16BE(0), Setting.INITIAL_WINDOW_SIZE);
  assert.equal(announced.payload.readUInt32BE(2), 1_000_000);
  await service.nextOf(Type.HEADERS, 3);
  answer(service, 3);
  await leave(next, 1);
});
