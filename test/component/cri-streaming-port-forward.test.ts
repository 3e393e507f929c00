import assert from "node:assert/strict";
import test from "node:test";
import type { PortStream } from "../../services/cri/streaming/stream-runtime.ts";
import { connectSpdy, SpdyClient } from "../kit/spdy-client.ts";
import { connectWebSocket } from "../kit/websocket-client.ts";
import { startStreaming } from "./cri-streaming-rig.ts";

const forward = "portforward.k8s.io";

/** Sends back what comes, with the port before it, and ends when the client has. */
async function echo(podId: string, port: number, stream: PortStream): Promise<void> {
  if (port === 81) {
    throw new Error("connection refused");
  }
  await stream.write(Buffer.from(`${podId}:${port}:`));
  for await (const bytes of stream.bytes) {
    await stream.write(bytes);
  }
  await stream.end();
}

async function exchange(client: SpdyClient, port: string, requestid: string, text: string): Promise<string[]> {
  const error = await client.open({ streamtype: "error", port, requestid });
  await error.end();
  const data = await client.open({ streamtype: "data", port, requestid });
  await data.write(text);
  await data.end();
  return await Promise.all([data.readAll(), error.readAll()]);
}

test("connections to several ports go over one connection of SPDY", async (t) => {
  const server = await startStreaming(t, { portForward: echo });
  using client = await connectSpdy(server.urlForPortForward("p1", []), forward);
  const answers = await Promise.all([
    exchange(client, "80", "0", "one"),
    exchange(client, "8080", "1", "two"),
    exchange(client, "80", "2", "x".repeat(300_000)),
  ]);
  assert.deepEqual(answers, [
    ["p1:80:one", ""],
    ["p1:8080:two", ""],
    [`p1:80:${"x".repeat(300_000)}`, ""],
  ]);
});

test("a port that can't be reached is told of on the error stream, and others go on", async (t) => {
  const server = await startStreaming(t, { portForward: echo });
  using client = await connectSpdy(server.urlForPortForward("p1", []), forward);
  const [, error] = await exchange(client, "81", "0", "");
  assert.equal(error, "error forwarding port 81 to pod p1, uid : connection refused");
  assert.deepEqual(await exchange(client, "80", "1", "one"), ["p1:80:one", ""]);
});

test("streams without a port or a type are refused", async (t) => {
  const server = await startStreaming(t, { portForward: echo });
  using client = await connectSpdy(server.urlForPortForward("p1", []), forward);
  for (const headers of [
    { streamtype: "data" },
    { port: "80" },
    { streamtype: "other", port: "80" },
    { streamtype: "data", port: "0" },
    { streamtype: "data", port: "65536" },
    { streamtype: "data", port: "80x" },
  ]) {
    await assert.rejects(client.open(headers), /was refused/);
  }
  const error = await client.open({ streamtype: "error", port: "80", requestid: "7" });
  const second = await client.open({ streamtype: "error", port: "80", requestid: "7" });
  await second.finished;
  assert.ok(second.wasReset);
  assert.equal(error.text, "error processing stream for request 7: error stream already assigned");
});

test("clients that give their requests no number are served by the order of their streams", async (t) => {
  const server = await startStreaming(t, { portForward: echo });
  using client = await connectSpdy(server.urlForPortForward("p1", []), forward);
  for (const text of ["one", "two"]) {
    await client.open({ streamtype: "error", port: "80" });
    const data = await client.open({ streamtype: "data", port: "80" });
    await data.write(text);
    await data.end();
    assert.equal(await data.readAll(), `p1:80:${text}`);
  }
});

test("SPDY goes inside of a WebSocket too, as kubectl sends it", async (t) => {
  const server = await startStreaming(t, { portForward: echo });
  using socket = await connectWebSocket(server.urlForPortForward("p1", []), `SPDY/3.1+${forward}`);
  assert.equal(socket.protocol, "SPDY/3.1+portforward.k8s.io");
  using client = new SpdyClient(socket.asDuplex());
  assert.deepEqual(await exchange(client, "80", "0", "one"), ["p1:80:one", ""]);
  assert.deepEqual(await exchange(client, "81", "1", ""), [
    "",
    "error forwarding port 81 to pod p1, uid : connection refused",
  ]);
});

test("ports of the request have a pair of channels each on a WebSocket", async (t) => {
  const server = await startStreaming(t, {
    portForward: async (podId, port, stream) => {
      if (port === 81) {
        throw new Error("connection refused");
      }
      for await (const bytes of stream.bytes) {
        await stream.write(Buffer.concat([Buffer.from(`${podId}:${port}:`), bytes]));
        break;
      }
    },
  });
  using client = await connectWebSocket(server.urlForPortForward("p1", [80, 81]), "v4.channel.k8s.io");
  const channels: Buffer[][] = [[], [], [], []];
  client.onMessage(({ bytes }) => channels[bytes[0] ?? 0]?.push(bytes.subarray(1)));
  await client.send(Buffer.from("\x00hello"));
  assert.equal(await client.closed, 1000);
  assert.deepEqual(
    channels.map(([first]) => first?.readUInt16LE(0)),
    [80, 80, 81, 81],
  );
  const texts = channels.map((messages) => Buffer.concat(messages.slice(1)).toString());
  assert.deepEqual(texts, ["p1:80:hello", "", "", "error forwarding port 81 to pod p1, uid : connection refused"]);
});
