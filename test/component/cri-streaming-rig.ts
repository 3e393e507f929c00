import type { TestContext } from "node:test";
import type { ProcessStreams, StreamRuntime } from "../../services/cri/streaming/stream-runtime.ts";
import { StreamingServer, type StreamingServerOptions } from "../../services/cri/streaming/streaming-server.ts";

const everything = { stdin: true, stdout: true, stderr: true, tty: false };

/** A streaming server in front of what a test makes of its calls. */
export async function startStreaming(
  t: TestContext,
  runtime: Partial<StreamRuntime>,
  options: Partial<StreamingServerOptions> = {},
): Promise<StreamingServer> {
  const unexpected = (): never => {
    throw new Error("not expected");
  };
  const server = await StreamingServer.start(
    { address: "127.0.0.1", port: 0, idleMs: 0, ...options },
    { exec: unexpected, attach: unexpected, portForward: unexpected, ...runtime },
  );
  t.after(() => server[Symbol.asyncDispose]());
  return server;
}

/** An address for a command, with every stream but those that are not wanted. */
export function execUrl(server: StreamingServer, wanted: Partial<typeof everything> = {}): string {
  return server.urlForExec("c1", ["cmd", "arg"], { ...everything, ...wanted });
}

/** All that a client sends on one stream. */
export async function readText(source: ProcessStreams["stdin"]): Promise<string> {
  const pieces: Uint8Array[] = [];
  for await (const bytes of source ?? []) {
    pieces.push(bytes);
  }
  return Buffer.concat(pieces).toString();
}

/** Writes to a client for ever, and tells how much it took. */
export function flood(streams: ProcessStreams): { takenBytes: () => number; done: Promise<void> } {
  let takenBytes = 0;
  const piece = new Uint8Array(64 * 1024);
  const done = (async () => {
    for (;;) {
      await streams.stdout?.write(piece);
      takenBytes += piece.length;
    }
  })();
  done.catch(() => undefined);
  return { takenBytes: () => takenBytes, done };
}

/** Waits until a number has not changed for a while, and gives it. */
export async function settled(read: () => number): Promise<number> {
  for (let last = -1, same = 0; ; ) {
    const now = read();
    same = now === last ? same + 1 : 0;
    last = now;
    if (same === 10) {
      return now;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
