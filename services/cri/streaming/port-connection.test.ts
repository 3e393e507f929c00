import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import net, { type AddressInfo } from "node:net";
import test, { type TestContext } from "node:test";
import { forwardPort } from "./port-connection.ts";
import type { PortStream } from "./stream-runtime.ts";

const never = new AbortController().signal;

/** What a client sends, and what it got. */
function client(...texts: string[]): { stream: PortStream; text: () => string; hasEnded: () => boolean } {
  const pieces: Uint8Array[] = [];
  let hasEnded = false;
  const stream: PortStream = {
    bytes: (async function* () {
      for (const text of texts) {
        yield Buffer.from(text);
      }
    })(),
    write: (bytes) => {
      pieces.push(bytes);
      return Promise.resolve();
    },
    end: () => {
      hasEnded = true;
      return Promise.resolve();
    },
  };
  return { stream, text: () => Buffer.concat(pieces).toString(), hasEnded: () => hasEnded };
}

async function serve(t: TestContext, host: string, onSocket: (socket: net.Socket) => void): Promise<number> {
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("error", () => socket.destroy());
    t.after(() => socket.destroy());
    onSocket(socket);
  });
  server.listen(0, host);
  await once(server, "listening");
  t.after(() => server.close());
  return (server.address() as AddressInfo).port;
}

test("each side ends by itself", async (t) => {
  const port = await serve(t, "127.0.0.1", (socket) => {
    let request = "";
    socket.on("data", (bytes: Buffer) => {
      request += bytes.toString();
    });
    socket.on("end", () => socket.end(`answer to ${request}`));
  });
  const { stream, text, hasEnded } = client("one ", "two");
  await forwardPort({ podId: "p1", netnsPath: "", port }, stream, never);
  assert.equal(text(), "answer to one two");
  assert.ok(hasEnded());
});

test("a program that listens on IPv6 alone is found", async (t) => {
  const port = await serve(t, "::1", (socket) => socket.end("six"));
  const { stream, text } = client();
  await forwardPort({ podId: "p1", netnsPath: "", port }, stream, never);
  assert.equal(text(), "six");
});

test("a port on which nobody listens is told of", async (t) => {
  const port = await serve(t, "127.0.0.1", (socket) => socket.destroy());
  await new Promise((resolve) => setImmediate(resolve));
  const unused = port === 1 ? 2 : 1;
  await assert.rejects(forwardPort({ podId: "p1", netnsPath: "", port: unused }, client().stream, never), {
    message: `failed to execute portforward in network namespace "host": failed to connect to localhost:${unused} inside namespace "p1", IPv4: connect ECONNREFUSED 127.0.0.1:${unused} IPv6 connect ECONNREFUSED ::1:${unused} `,
  });
});

test("a client that goes ends the connection", async (t) => {
  const gone = new AbortController();
  const closed = Promise.withResolvers<void>();
  const port = await serve(t, "127.0.0.1", (socket) => {
    socket.resume();
    socket.on("close", () => closed.resolve());
    socket.on("end", () => socket.end());
    gone.abort();
  });
  const { stream } = client();
  await forwardPort(
    { podId: "p1", netnsPath: "", port },
    {
      ...stream,
      bytes: (async function* () {
        await new Promise((resolve) => gone.signal.addEventListener("abort", resolve));
        yield new Uint8Array();
      })(),
    },
    gone.signal,
  );
  await closed.promise;
});

const canMakeNamespaces = process.getuid?.() === 0;

test("ports are those of the pod's network namespace, and ours stays where it is", {
  skip: canMakeNamespaces ? false : "network namespaces are made by root",
}, async (t) => {
  const pod = spawn("unshare", ["--net", "sh", "-c", "ip link set lo up && echo up && exec cat"], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  t.after(() => pod.kill("SIGKILL"));
  await once(pod.stdout, "data");
  const port = await serve(t, "127.0.0.1", (socket) => socket.end("the host's"));
  const netnsPath = `/proc/${pod.pid}/ns/net`;
  await assert.rejects(forwardPort({ podId: "p1", netnsPath, port }, client().stream, never), /IPv4: .*ECONNREFUSED/);
  const program = `require("net").createServer((s) => s.end("the pod's")).listen(${port}, "127.0.0.1", () => process.stdout.write("up"))`;
  const inside = spawn("nsenter", [`--net=${netnsPath}`, process.execPath, "-e", program], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(() => inside.kill("SIGKILL"));
  await once(inside.stdout, "data");
  const answers = [];
  for (const path of [netnsPath, "", netnsPath]) {
    const { stream, text } = client();
    await forwardPort({ podId: "p1", netnsPath: path, port }, stream, never);
    answers.push(text());
  }
  assert.deepEqual(answers, ["the pod's", "the host's", "the pod's"]);
});
