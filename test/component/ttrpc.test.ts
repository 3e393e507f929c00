import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { ErrorKind, FlotillaError, failure } from "#base/errors.ts";
import { Task } from "#gen/containerd/task/v3/shim_pb.ts";
import { RequestSchema, type Response, ResponseSchema } from "#gen/ttrpc/ttrpc_pb.ts";
import { bindService, type Handlers } from "#wire/handler.ts";
import { requireNamespace } from "#wire/headers.ts";
import type { FailedCall } from "#wire/observe.ts";
import { connectTtrpc, type TtrpcClient } from "#wire/ttrpc/client.ts";
import { encodeFrame, FrameParser, FrameType } from "#wire/ttrpc/frame.ts";
import { serveTtrpc, type TtrpcServer } from "#wire/ttrpc/server.ts";
import { isConnectionClosed, ttrpcNamespaceHeader } from "#wire/ttrpc/status.ts";

interface Rig {
  readonly path: string;
  readonly server: TtrpcServer;
  readonly client: TtrpcClient;
  readonly failures: FailedCall[];
}

async function startRig(
  t: TestContext,
  handlers: Partial<Handlers<typeof Task>>,
  limits: { concurrentCallsMax?: number; connectionsMax?: number } = {},
): Promise<Rig> {
  const directory = await mkdtemp(join(tmpdir(), "flotilla-ttrpc-"));
  const path = join(directory, "t.sock");
  const failures: FailedCall[] = [];
  const server = await serveTtrpc({
    socketPath: path,
    services: [bindService(Task, handlers)],
    observer: { failed: (failed) => failures.push(failed) },
    ...limits,
  });
  const client = await connectTtrpc(`unix://${path}`);
  t.after(async () => {
    client.close();
    await server.close(0);
    await rm(directory, { recursive: true });
  });
  return { path, server, client, failures };
}

test("a call carries message, namespace, deadline and answer", async (t) => {
  const { client, path } = await startRig(t, {
    start: (request, call) => {
      assert.equal(requireNamespace(call), "blue");
      return { pid: request.execId === "e" ? 7 : 8 };
    },
  });
  const answer = await client.unary(
    Task.method.start,
    { id: "c", execId: "e" },
    { metadata: { [ttrpcNamespaceHeader]: "blue" }, timeoutMs: 10_000 },
  );
  assert.equal(answer.pid, 7);
  assert.equal((await stat(path)).mode & 0o777, 0o600);
});

test("of metadata that is sent twice the first value counts", async (t) => {
  const { path } = await startRig(t, {
    start: (_request, call) => ({ pid: requireNamespace(call) === "testing" ? 1 : 2 }),
  });
  const socket = net.connect(path);
  t.after(() => socket.destroy());
  const values = ["testing", "other"];
  const request = create(RequestSchema, {
    service: Task.typeName,
    method: "Start",
    metadata: values.map((value) => ({ key: ttrpcNamespaceHeader, value })),
  });
  socket.write(encodeFrame({ streamId: 1, type: FrameType.Request, flags: 0, data: toBinary(RequestSchema, request) }));
  const [chunk] = (await once(socket, "data")) as [Buffer];
  const [frame] = new FrameParser().push(chunk);
  assert.ok(frame !== undefined && "data" in frame);
  const response = fromBinary(ResponseSchema, frame.data);
  assert.equal(response.status, undefined);
  assert.equal(fromBinary(Task.method.start.output, response.payload).pid, 1);
});

test("errors arrive with class and text", async (t) => {
  const { client, failures } = await startRig(t, {
    kill: () => {
      throw failure(ErrorKind.NotFound, "process already finished");
    },
    pause: () => {
      throw new Error("something broke");
    },
  });
  await assert.rejects(client.unary(Task.method.kill, {}), {
    kind: ErrorKind.NotFound,
    message: "process already finished: not found",
  });
  await assert.rejects(client.unary(Task.method.pause, {}), { kind: ErrorKind.Unknown, message: "something broke" });
  assert.deepEqual(
    failures.map(({ rpc }) => rpc),
    ["/containerd.task.v3.Task/Kill", "/containerd.task.v3.Task/Pause"],
  );
});

test("unknown services and methods are unimplemented, in the words of other implementations", async (t) => {
  const { client } = await startRig(t, {});
  await assert.rejects(client.unary(Task.method.start, {}), {
    kind: ErrorKind.NotImplemented,
    message: "method Start",
  });
  await assert.rejects(client.unary(Task.method.start, {}, { serviceName: "containerd.task.v2.Task" }), {
    kind: ErrorKind.NotImplemented,
    message: "service containerd.task.v2.Task",
  });
});

test("a waiting call holds up nobody, and answers find their calls in any order", async (t) => {
  const gates = new Map<string, () => void>();
  const { client } = await startRig(t, {
    wait: ({ id }) => new Promise((resolve) => gates.set(id, () => resolve({ exitStatus: Number(id) }))),
    start: () => ({ pid: 1 }),
  });
  const waits = ["1", "2", "3"].map((id) => client.unary(Task.method.wait, { id }));
  assert.equal((await client.unary(Task.method.start, {})).pid, 1);
  for (const id of ["3", "1", "2"]) {
    gates.get(id)?.();
  }
  assert.deepEqual(
    (await Promise.all(waits)).map(({ exitStatus }) => exitStatus),
    [1, 2, 3],
  );
});

test("deadline and signal end a call at the client, the deadline at the server too", async (t) => {
  const reasons: unknown[] = [];
  const aborted = Promise.withResolvers<void>();
  const { client } = await startRig(t, {
    wait: (_request, call) =>
      new Promise(() => {
        call.signal.addEventListener("abort", () => {
          reasons.push((call.signal.reason as FlotillaError).kind);
          aborted.resolve();
        });
      }),
  });
  await assert.rejects(client.unary(Task.method.wait, {}, { timeoutMs: 20 }), {
    kind: ErrorKind.DeadlineExceeded,
    message: "context deadline exceeded",
  });
  await aborted.promise;
  assert.deepEqual(reasons, [ErrorKind.DeadlineExceeded]);
  const giveUp = new AbortController();
  const call = client.unary(Task.method.wait, {}, { signal: giveUp.signal });
  giveUp.abort();
  await assert.rejects(call, { kind: ErrorKind.Canceled, message: "context canceled" });
});

test("when the client goes, its calls are aborted; when the server goes, calls fail and closed resolves", async (t) => {
  const started = Promise.withResolvers<AbortSignal>();
  const startedAgain = Promise.withResolvers<AbortSignal>();
  const { client, path, server } = await startRig(t, {
    wait: ({ id }, call) => {
      (id === "second" ? startedAgain : started).resolve(call.signal);
      return new Promise(() => undefined);
    },
  });
  const second = await connectTtrpc(path);
  const call = second.unary(Task.method.wait, {});
  const signal = await started.promise;
  second.close();
  await assert.rejects(call, isConnectionClosed);
  await second.closed;
  if (!signal.aborted) {
    await once(signal, "abort");
  }
  const waiting = client.unary(Task.method.wait, { id: "second" });
  await startedAgain.promise;
  const failed = assert.rejects(waiting, {
    kind: ErrorKind.Unavailable,
    message: "the process is stopping: unavailable",
  });
  await server.close(10);
  await failed;
  await client.closed;
  await assert.rejects(client.unary(Task.method.start, {}), isConnectionClosed);
  await assert.rejects(connectTtrpc(path), { kind: ErrorKind.Unavailable });
});

test("a stopping server answers what runs before it closes", async (t) => {
  const started = Promise.withResolvers<() => void>();
  const { client, server } = await startRig(t, {
    wait: () => new Promise((resolve) => started.resolve(() => resolve({ exitStatus: 5 }))),
  });
  const call = client.unary(Task.method.wait, {});
  const answer = await started.promise;
  const closed = server.close(10_000);
  answer();
  assert.equal((await call).exitStatus, 5);
  await closed;
  await client.closed;
});

test("more calls than allowed wait their turn instead of failing", async (t) => {
  let running = 0;
  let runningMax = 0;
  const { client } = await startRig(
    t,
    {
      start: async () => {
        running += 1;
        runningMax = Math.max(runningMax, running);
        await new Promise((resolve) => setImmediate(resolve));
        running -= 1;
        return { pid: 1 };
      },
    },
    { concurrentCallsMax: 2 },
  );
  const padding = "x".repeat(60_000);
  const answers = await Promise.all(Array.from({ length: 60 }, () => client.unary(Task.method.start, { id: padding })));
  assert.equal(answers.length, 60);
  assert.ok(runningMax < 10, `${runningMax} calls ran at once`);
});

test("connections beyond the limit are closed", async (t) => {
  const { path } = await startRig(t, {}, { connectionsMax: 1 });
  const surplus = await connectTtrpc(path);
  await surplus.closed;
});

test("a request or answer that does not fit into a frame fails alone", async (t) => {
  const { client } = await startRig(t, {
    state: () => ({ bundle: "x".repeat(5 * 1024 * 1024) }),
    start: () => ({ pid: 3 }),
  });
  await assert.rejects(client.unary(Task.method.state, {}), { kind: ErrorKind.ResourceExhausted });
  await assert.rejects(client.unary(Task.method.start, { id: "x".repeat(5 * 1024 * 1024) }), {
    kind: ErrorKind.ResourceExhausted,
  });
  assert.equal((await client.unary(Task.method.start, {})).pid, 3);
});

/** Sends raw bytes and gives the responses that come back until the server is silent or closes. */
async function sendRaw(path: string, bytes: Buffer, expected: number): Promise<Response[]> {
  const socket = net.connect(path);
  const parser = new FrameParser();
  const responses: Response[] = [];
  socket.write(bytes);
  for await (const chunk of socket) {
    for (const frame of parser.push(chunk as Buffer)) {
      if ("data" in frame) {
        responses.push(fromBinary(ResponseSchema, frame.data));
      }
    }
    if (responses.length === expected) {
      break;
    }
  }
  socket.destroy();
  return responses;
}

function request(streamId: number, method: string): Buffer {
  const data = toBinary(RequestSchema, create(RequestSchema, { service: Task.typeName, method }));
  return encodeFrame({ streamId, type: FrameType.Request, flags: 0, data });
}

test("frames against the rules get a status, and the connection goes on", async (t) => {
  const { path } = await startRig(t, { start: () => ({ pid: 1 }) });
  const oversized = encodeFrame({ streamId: 9, type: FrameType.Request, flags: 0 });
  oversized.writeUInt32BE(5 * 1024 * 1024, 0);
  const responses = await sendRaw(
    path,
    Buffer.concat([
      request(2, "Start"),
      encodeFrame({ streamId: 1, type: FrameType.Data, flags: 0 }),
      encodeFrame({ streamId: 3, type: FrameType.Request, flags: 0, data: Buffer.from([0xff]) }),
      request(3, "Start"),
      encodeFrame({ streamId: 5, type: 99, flags: 0 }),
      oversized,
      Buffer.alloc(5 * 1024 * 1024),
      request(11, "Start"),
    ]),
    6,
  );
  assert.deepEqual(
    responses.map(({ status }) => [status?.code, status?.message.replace(/error: .*/, "error")]),
    [
      [3, "StreamID must be odd for client initiated streams"],
      [3, "StreamID is no longer active"],
      [3, "unmarshal request error"],
      [3, "StreamID cannot be re-used and must increment"],
      [8, "message length 5242880 exceed maximum message size of 4194304"],
      [undefined, undefined],
    ],
  );
});

test("bytes that are no ttrpc close their connection and no other", async (t) => {
  const { path, client } = await startRig(t, { start: () => ({ pid: 1 }) });
  assert.deepEqual(await sendRaw(path, Buffer.from("GET / HTTP/1.1\r\nhost: x\r\n\r\n"), 1), []);
  assert.equal((await client.unary(Task.method.start, {})).pid, 1);
});

test("a client whose server talks nonsense fails its calls", async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "flotilla-ttrpc-"));
  const path = join(directory, "t.sock");
  const server = net.createServer((socket) => socket.end("nonsense and more of it"));
  await new Promise<void>((resolve) => server.listen(path, resolve));
  t.after(async () => {
    server.close();
    await rm(directory, { recursive: true });
  });
  const client = await connectTtrpc(path);
  await assert.rejects(client.unary(Task.method.start, {}), isConnectionClosed);
});

test("a stale socket is replaced, and a file in its place as well", async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "flotilla-ttrpc-"));
  const path = join(directory, "t.sock");
  await writeFile(path, "");
  const server = await serveTtrpc({ socketPath: path, services: [], socketMode: 0o660 });
  t.after(async () => {
    await server.close(0);
    await rm(directory, { recursive: true });
  });
  assert.equal((await stat(path)).mode & 0o777, 0o660);
});
