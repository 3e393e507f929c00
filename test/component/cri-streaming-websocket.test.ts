import assert from "node:assert/strict";
import test from "node:test";
import type { TerminalSize } from "../../services/cri/streaming/stream-runtime.ts";
import { requestUpgrade } from "../kit/upgrade-client.ts";
import { connectWebSocket, type WebSocketClient, type WebSocketMessage } from "../kit/websocket-client.ts";
import { execUrl, flood, readText, settled, startStreaming } from "./cri-streaming-rig.ts";

const v4 = "v4.channel.k8s.io";
const v5 = "v5.channel.k8s.io";
const megabyte = 1024 * 1024;

/** What came on each channel, by its number. */
async function collect(client: WebSocketClient): Promise<Record<string, string>> {
  const channels: Record<string, string> = {};
  client.onMessage(({ bytes }) => {
    const channel = String(bytes[0]);
    channels[channel] = (channels[channel] ?? "") + bytes.toString("utf8", 1);
  });
  assert.equal(await client.closed, 1000);
  return channels;
}

function message(channel: number, text: string): Buffer {
  return Buffer.concat([Buffer.from([channel]), Buffer.from(text)]);
}

test("a client of the fifth protocol ends the input of a command and gets all the output", async (t) => {
  const server = await startStreaming(t, {
    exec: async (_id, command, streams) => {
      const input = await readText(streams.stdin);
      await streams.stdout?.write(Buffer.from(`${command.join(" ")} ${input}`));
      await streams.stderr?.write(Buffer.from("bad"));
      return 3;
    },
  });
  using client = await connectWebSocket(execUrl(server), v5, v4);
  assert.equal(client.protocol, v5);
  const all = collect(client);
  await client.send(message(0, "in"));
  await client.send(message(0, "put"));
  await client.send(Buffer.from([255, 0]));
  const { 1: stdout, 2: stderr, 3: error = "" } = await all;
  assert.equal(stdout, "cmd arg input");
  assert.equal(stderr, "bad");
  const { status, details } = JSON.parse(error) as { status: string; details: unknown };
  assert.equal(status, "Failure");
  assert.deepEqual(details, { causes: [{ reason: "ExitCode", message: "3" }] });
});

test("what was agreed upon decides how messages and the status look", async (t) => {
  const server = await startStreaming(t, {
    exec: async (_id, _command, streams) => {
      for await (const bytes of streams.stdin ?? []) {
        await streams.stdout?.write(bytes);
        break;
      }
      return 1;
    },
  });
  const base64 = (text: string): string => Buffer.from(text).toString("base64");
  const failed = "command terminated with non-zero exit code: error executing command [cmd arg], exit code 1";
  const cases = [
    { protocols: [v4], isText: false, isJson: true },
    { protocols: ["v4.base64.channel.k8s.io"], isText: true, isJson: true },
    { protocols: ["base64.channel.k8s.io"], isText: true, isJson: false },
    { protocols: ["channel.k8s.io"], isText: false, isJson: false },
    { protocols: [], isText: false, isJson: false },
  ];
  for (const { protocols, isText, isJson } of cases) {
    using client = await connectWebSocket(execUrl(server), ...protocols);
    assert.equal(client.protocol, protocols[0] ?? "");
    const messages: WebSocketMessage[] = [];
    client.onMessage((one) => messages.push(one));
    await client.send(isText ? `0${base64("hello")}` : message(0, "hello"));
    assert.equal(await client.closed, 1000);
    const read = messages.map(({ bytes }) => [
      isText ? Number(bytes.toString("latin1", 0, 1)) : bytes[0],
      isText ? Buffer.from(bytes.toString("latin1", 1), "base64").toString() : bytes.toString("utf8", 1),
    ]);
    assert.ok(messages.every((one) => one.isText === isText));
    assert.deepEqual(read.slice(0, 2), [
      [1, ""],
      [1, "hello"],
    ]);
    const [channel, status = ""] = read[2] ?? [];
    assert.equal(channel, 3);
    assert.equal(isJson ? (JSON.parse(String(status)) as { message: string }).message : status, failed);
  }
});

test("sizes of the terminal are handed on", async (t) => {
  const seen = Promise.withResolvers<TerminalSize>();
  const server = await startStreaming(t, {
    exec: async (_id, _command, streams) => {
      for await (const size of streams.resizes ?? []) {
        seen.resolve(size);
        break;
      }
      return 0;
    },
  });
  using client = await connectWebSocket(execUrl(server, { stderr: false, tty: true }), v5);
  await client.send(message(4, '{"Width":132,"Height":43}'));
  assert.deepEqual(await seen.promise, { width: 132, height: 43 });
});

test("a client that stalls holds up its own command, within bounds, and nobody else's", async (t) => {
  const floods: ReturnType<typeof flood>[] = [];
  const server = await startStreaming(t, {
    exec: async (_id, _command, streams) => {
      const one = flood(streams);
      floods.push(one);
      await one.done;
      return 0;
    },
  });
  using stalled = await connectWebSocket(execUrl(server), v5);
  stalled.socket.pause();
  const takenBytes = await settled(() => floods[0]?.takenBytes() ?? 0);
  assert.ok(takenBytes < 32 * megabyte, `${takenBytes} bytes are on their way`);
  using other = await connectWebSocket(execUrl(server), v5);
  const enough = Promise.withResolvers<void>();
  let receivedBytes = 0;
  other.onMessage(({ bytes }) => {
    receivedBytes += bytes.length;
    if (receivedBytes >= 64 * megabyte) {
      enough.resolve();
    }
  });
  await enough.promise;
  // The kernel gives a connection larger buffers as it likes.
  assert.ok((floods[0]?.takenBytes() ?? 0) < 32 * megabyte);
});

test("a command that reads nothing holds its client up, within bounds", async (t) => {
  const read = Promise.withResolvers<void>();
  let length = 0;
  const server = await startStreaming(t, {
    exec: async (_id, _command, streams) => {
      await read.promise;
      ({ length } = await readText(streams.stdin));
      return 0;
    },
  });
  using client = await connectWebSocket(execUrl(server), v5);
  const all = collect(client);
  let sentBytes = 0;
  const sending = (async () => {
    for (let round = 0; round < 1024; round += 1) {
      await client.send(Buffer.alloc(32 * 1024 + 1));
      sentBytes += 32 * 1024;
    }
    await client.send(Buffer.from([255, 0]));
  })();
  assert.ok((await settled(() => sentBytes)) < 24 * megabyte);
  read.resolve();
  await sending;
  assert.equal((await all)[3], '{"status":"Success"}');
  assert.equal(length, 32 * megabyte);
});

test("nothing moves for too long: the connection is closed, and the command is told", async (t) => {
  const gone = Promise.withResolvers<void>();
  const server = await startStreaming(
    t,
    {
      exec: async (_id, _command, streams, signal) => {
        await readText(streams.stdin);
        assert.ok(signal.aborted);
        gone.resolve();
        return 0;
      },
    },
    { idleMs: 300 },
  );
  using client = await connectWebSocket(execUrl(server), v5);
  assert.equal(await client.closed, 1006);
  await gone.promise;
});

test("a protocol that we do not speak is refused", async (t) => {
  const server = await startStreaming(t, {});
  const { status, socket } = await requestUpgrade(execUrl(server), [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Protocol: v9.channel.k8s.io",
  ]);
  socket.destroy();
  assert.equal(status, 403);
});
