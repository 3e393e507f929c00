import assert from "node:assert/strict";
import test from "node:test";
import { makeSelfSignedCertificate } from "../../services/cri/streaming/self-signed-certificate.ts";
import type { TerminalSize } from "../../services/cri/streaming/stream-runtime.ts";
import { connectSpdy, type SpdyClient, type SpdyClientStream } from "../kit/spdy-client.ts";
import { requestUpgrade } from "../kit/upgrade-client.ts";
import { execUrl, flood, readText, settled, startStreaming } from "./cri-streaming-rig.ts";

const v4 = "v4.channel.k8s.io";
const megabyte = 1024 * 1024;

async function openAll<N extends string>(
  client: SpdyClient,
  ...names: readonly N[]
): Promise<Record<N, SpdyClientStream>> {
  const streams: Partial<Record<N, SpdyClientStream>> = {};
  for (const name of names) {
    streams[name] = await client.open({ streamtype: name });
  }
  return streams as Record<N, SpdyClientStream>;
}

test("a command gets its input until the client ends it, and the client its output and success", async (t) => {
  const server = await startStreaming(t, {
    exec: async (containerId, command, streams) => {
      const input = await readText(streams.stdin);
      await streams.stdout?.write(Buffer.from(`${containerId} ${command.join(" ")} ${input}`));
      await streams.stderr?.write(Buffer.from("bad"));
      await streams.stdout?.end();
      return 0;
    },
  });
  using client = await connectSpdy(execUrl(server), "v5.channel.k8s.io", v4);
  const { error, stdin, stdout, stderr } = await openAll(client, "error", "stdin", "stdout", "stderr");
  await stdin.write("in");
  await stdin.write("put");
  await stdin.end();
  assert.equal(await stdout.readAll(), "c1 cmd arg input");
  assert.equal(await stderr.readAll(), "bad");
  assert.deepEqual(JSON.parse(await error.readAll()), { status: "Success" });
  await client.closed;
  assert.ok(client.wasToldToGo);
});

test("the exit code of a command is told as the fourth protocol has it, and as text before", async (t) => {
  const server = await startStreaming(t, { exec: () => Promise.resolve(7) });
  const message = "command terminated with non-zero exit code: error executing command [cmd arg], exit code 7";
  for (const protocol of [v4, "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"]) {
    using client = await connectSpdy(execUrl(server, { stdin: false, stderr: false }), protocol);
    const { error } = await openAll(client, "stdout", "error");
    const text = await error.readAll();
    if (protocol === v4) {
      assert.deepEqual(JSON.parse(text), {
        status: "Failure",
        message,
        reason: "NonZeroExitCode",
        details: { causes: [{ reason: "ExitCode", message: "7" }] },
      });
    } else {
      assert.equal(text, message);
    }
  }
});

test("a command that can't be run is told of as an error of ours", async (t) => {
  const server = await startStreaming(t, { exec: () => Promise.reject(new Error("no such container")) });
  using client = await connectSpdy(execUrl(server, { stdin: false, stderr: false }), v4);
  const { error } = await openAll(client, "error", "stdout");
  assert.deepEqual(JSON.parse(await error.readAll()), {
    status: "Failure",
    message: "Internal error occurred: error executing command in container: no such container",
    reason: "InternalError",
    code: 500,
  });
});

test("sizes of the terminal are handed on", async (t) => {
  const sizes: TerminalSize[] = [];
  const server = await startStreaming(t, {
    attach: async (_id, streams) => {
      assert.equal(streams.tty, true);
      for await (const size of streams.resizes ?? []) {
        sizes.push(size);
      }
    },
  });
  const url = server.urlForAttach("c1", { stdin: true, stdout: true, stderr: false, tty: true });
  using client = await connectSpdy(url, v4);
  const { resize, error } = await openAll(client, "error", "stdin", "stdout", "resize");
  await resize.write('{"Width":80,"Hei');
  await resize.write('ght":24}\n{"Width":0,"Height":5}{"width":100,"height":50}');
  await resize.end();
  assert.equal(await error.readAll(), '{"status":"Success"}');
  assert.deepEqual(sizes, [
    { width: 80, height: 24 },
    { width: 100, height: 50 },
  ]);
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
  const url = (): string => execUrl(server, { stdin: false, stderr: false });
  using stalled = await connectSpdy(url(), v4);
  await openAll(stalled, "error", "stdout");
  stalled.socket.pause();
  const takenBytes = await settled(() => floods[0]?.takenBytes() ?? 0);
  assert.ok(takenBytes < 32 * megabyte, `${takenBytes} bytes are on their way`);

  using other = await connectSpdy(url(), v4);
  const stdout = await openOutput(other);
  while (stdout.receivedBytes < 64 * megabyte) {
    await new Promise(setImmediate);
  }
  // The kernel gives a connection larger buffers as it likes.
  const heldBytes = floods[0]?.takenBytes() ?? 0;
  assert.ok(heldBytes < 32 * megabyte, `${heldBytes} bytes are on their way`);
  stalled.socket.resume();
  while ((floods[0]?.takenBytes() ?? 0) < heldBytes + megabyte) {
    await new Promise(setImmediate);
  }
});

async function openOutput(client: SpdyClient): Promise<SpdyClientStream> {
  const { stdout } = await openAll(client, "error", "stdout");
  stdout.keepsBytes = false;
  return stdout;
}

test("a command that reads nothing holds its client up, within bounds", async (t) => {
  const read = Promise.withResolvers<void>();
  let text = "";
  const server = await startStreaming(t, {
    exec: async (_id, _command, streams) => {
      await read.promise;
      text = await readText(streams.stdin);
      return 0;
    },
  });
  using client = await connectSpdy(execUrl(server, { stdout: false, stderr: false }), v4);
  const { stdin, error } = await openAll(client, "error", "stdin");
  let sentBytes = 0;
  const sending = (async () => {
    for (let round = 0; round < 1024; round += 1) {
      await stdin.write(new Uint8Array(64 * 1024).fill(0x61));
      sentBytes += 64 * 1024;
    }
    await stdin.end();
  })();
  assert.ok((await settled(() => sentBytes)) < 48 * megabyte);
  read.resolve();
  await sending;
  assert.equal(await error.readAll(), '{"status":"Success"}');
  assert.equal(text.length, 64 * megabyte);
});

test("the command is told when the client has gone, and its input ends", async (t) => {
  const gone = Promise.withResolvers<string>();
  const server = await startStreaming(t, {
    exec: async (_id, _command, streams, signal) => {
      const input = await readText(streams.stdin);
      assert.ok(signal.aborted);
      await assert.rejects(async () => streams.stdout?.write(Buffer.from("x")), { message: /closed/ });
      gone.resolve(input);
      return 0;
    },
  });
  const client = await connectSpdy(execUrl(server, { stderr: false }), v4);
  const { stdin } = await openAll(client, "error", "stdin", "stdout");
  await stdin.write("last");
  await client.ping();
  client[Symbol.dispose]();
  assert.equal(await gone.promise, "last");
});

test("nothing moves for too long: the connection is closed", async (t) => {
  const gone = Promise.withResolvers<void>();
  const server = await startStreaming(
    t,
    {
      exec: async (_id, _command, streams) => {
        await readText(streams.stdin);
        gone.resolve();
        return 0;
      },
    },
    { idleMs: 300 },
  );
  using client = await connectSpdy(execUrl(server, { stdout: false, stderr: false }), v4);
  await openAll(client, "error", "stdin");
  await client.closed;
  await gone.promise;
});

test("an address is good once, for what it was given for", async (t) => {
  const server = await startStreaming(t, { exec: () => Promise.resolve(0) });
  const upgrade = ["Connection: Upgrade", "Upgrade: SPDY/3.1", `X-Stream-Protocol-Version: ${v4}`];
  const statusOf = async (url: string, headers = upgrade): Promise<number> => {
    const { status, socket } = await requestUpgrade(url, headers);
    socket.destroy();
    return status;
  };
  const url = execUrl(server);
  assert.equal(await statusOf(url), 101);
  assert.equal(await statusOf(url), 404);
  assert.equal(await statusOf(execUrl(server).replace("/exec/", "/attach/")), 404);
  assert.equal(await statusOf(execUrl(server).replace(/\/exec\/.*/, "/")), 404);
  assert.equal(await statusOf(execUrl(server), []), 400);
  assert.equal(await statusOf(execUrl(server), upgrade.slice(0, 2)), 400);
  assert.equal(await statusOf(execUrl(server), upgrade.slice(2)), 400);
  const { status, headers, socket } = await requestUpgrade(execUrl(server), [
    ...upgrade.slice(0, 2),
    "X-Stream-Protocol-Version: v9.channel.k8s.io",
  ]);
  assert.equal(status, 403);
  assert.equal(headers.get("x-accepted-stream-protocol-versions"), "channel.k8s.io");
  socket.destroy();
});

test("a stream whose number is not the next is refused, and the others go on", async (t) => {
  const server = await startStreaming(t, { exec: async (_id, _command, { stdin }) => (await readText(stdin)).length });
  using client = await connectSpdy(execUrl(server, { stdout: false, stderr: false }), v4);
  const { error, stdin } = await openAll(client, "error", "stdin");
  await assert.rejects(client.openWithId(4, { streamtype: "stdout" }), { message: "stream 4 was refused" });
  await stdin.write("abc");
  await stdin.end();
  assert.equal((JSON.parse(await error.readAll()) as { reason: string }).reason, "NonZeroExitCode");
});

test("a frame of another version of SPDY ends the connection", async (t) => {
  const server = await startStreaming(t, {});
  using client = await connectSpdy(execUrl(server), v4);
  client.socket.write(Buffer.from([0x80, 2, 0, 1, 0, 0, 0, 0]));
  await client.closed;
});

test("streams are encrypted when there is a certificate, and all end with the server", async (t) => {
  const server = await startStreaming(
    t,
    { exec: async (_id, _command, { stdin }) => (await readText(stdin)).length },
    { tls: makeSelfSignedCertificate("localhost", ["127.0.0.1"]) },
  );
  const url = execUrl(server, { stdout: false, stderr: false });
  assert.match(url, /^https:\/\/127\.0\.0\.1:\d+\/exec\//);
  using client = await connectSpdy(url, v4);
  await openAll(client, "error", "stdin");
  await client.ping();
  await server[Symbol.asyncDispose]();
  await client.closed;
});
