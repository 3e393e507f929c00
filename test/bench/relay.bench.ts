/**
 * Measures what the relay costs: the same calls straight to a service and through the relay, in turns, as JSON.
 *
 * Service, relay and client are processes of their own. Rates depend on what else the machine does; the ratios and the
 * processor time of the relay much less.
 *
 *     node test/bench/relay.bench.ts [rounds]
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import http2 from "node:http2";
import net from "node:net";
import { fileURLToPath } from "node:url";
import { serveRpc } from "#wire/server.ts";
import { connectionWindowBytes, serviceSettings } from "#wire/transport-settings.ts";
import { bindEcho, echoPath, echoRoutes, plainEcho } from "../kit/echo-service.ts";
import {
  data,
  Flags,
  grpcMessage,
  grpcRequest,
  headers,
  preface,
  settings,
  Type,
  windowUpdate,
} from "../kit/raw-http2.ts";
import { listenRelay } from "../kit/relay-stand.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";

const streamBytes = 64 * 1024 * 1024;
const callMs = 1_000;
const blockBytes = 64 * 1024;

interface Round {
  unaryMedianUs: number;
  unaryRateOne: number;
  unaryRateSixteen: number;
  downloadMegabytesPerSecond: number;
  uploadMegabytesPerSecond: number;
}

interface RelayCost {
  unaryCpuUsPerCall: number;
  downloadCpuNsPerByte: number;
  uploadCpuNsPerByte: number;
}

/** A service as ours are, for unary calls, and a bare server of bytes. */
async function runService([echoSocket = "", bulkSocket = ""]: readonly string[]): Promise<void> {
  await serveRpc({ socketPath: echoSocket, services: [bindEcho(plainEcho)] });
  const server = http2.createServer({ settings: serviceSettings });
  const block = Buffer.alloc(blockBytes);
  server.on("session", (session) => session.setLocalWindowSize(connectionWindowBytes));
  server.on("stream", (stream: http2.ServerHttp2Stream, request) => {
    stream.on("error", () => undefined);
    stream.respond({ ":status": 200 });
    if (request[":path"] === "/bulk/Upload") {
      stream.resume();
      stream.on("end", () => stream.end());
      return;
    }
    let leftBytes = streamBytes;
    const write = (): void => {
      while (leftBytes > 0) {
        leftBytes -= blockBytes;
        if (!stream.write(block)) {
          stream.once("drain", write);
          return;
        }
      }
      stream.end();
    };
    write();
  });
  server.listen(bulkSocket);
  await once(server, "listening");
  process.send?.("ready");
}

async function runRelay([socketPath = "", echoSocket = "", bulkSocket = ""]: readonly string[]): Promise<void> {
  const bulk = ["/bulk/Download", "/bulk/Upload"].map(
    (path) => [path, { upstream: "bulk", repeatable: false }] as const,
  );
  await listenRelay({
    socketPath,
    routes: new Map([...echoRoutes("echo"), ...bulk]),
    heldMsMax: 10_000,
    socketOf: (upstream) => (upstream === "bulk" ? bulkSocket : echoSocket),
  });
  process.on("message", () => process.send?.(process.cpuUsage()));
  process.send?.("ready");
}

async function runBench(rounds: number): Promise<void> {
  await using directory = await makeTemporaryDirectory("bench");
  const echoSocket = `${directory.path}/echo.sock`;
  const bulkSocket = `${directory.path}/bulk.sock`;
  const relaySocket = `${directory.path}/relay.sock`;
  await using service = await start(["service", echoSocket, bulkSocket]);
  await using relay = await start(["relay", relaySocket, echoSocket, bulkSocket]);
  void service;
  const direct: Round[] = [];
  const relayed: Round[] = [];
  const costs: RelayCost[] = [];
  for (let round = 0; round < rounds; round++) {
    direct.push((await measure({ unarySocket: echoSocket, bulkSocket }, () => Promise.resolve(0))).rates);
    const { rates, cost } = await measure({ unarySocket: relaySocket, bulkSocket: relaySocket }, () =>
      cpuUs(relay.child),
    );
    relayed.push(rates);
    costs.push(cost);
  }
  const result = { direct: medians(direct), relayed: medians(relayed), relay: medians(costs) };
  process.stdout.write(`${JSON.stringify(result, undefined, 2)}\n`);
}

async function start(roleAndArguments: readonly string[]): Promise<{ child: ChildProcess } & AsyncDisposable> {
  const child = fork(fileURLToPath(import.meta.url), roleAndArguments);
  await once(child, "message");
  return {
    child,
    [Symbol.asyncDispose]: async () => {
      child.kill();
      await once(child, "exit");
    },
  };
}

async function cpuUs(child: ChildProcess): Promise<number> {
  const answered = once(child, "message");
  child.send("cpu");
  const [usage] = (await answered) as [NodeJS.CpuUsage];
  return usage.user + usage.system;
}

async function measure(
  { unarySocket, bulkSocket }: { readonly unarySocket: string; readonly bulkSocket: string },
  readCpuUs: () => Promise<number>,
): Promise<{ rates: Round; cost: RelayCost }> {
  const caller = await RawCaller.open(unarySocket);
  await caller.run(1, 200);
  const one = await caller.run(1, callMs);
  const beforeCalls = await readCpuUs();
  const sixteen = await caller.run(16, callMs);
  const afterCalls = await readCpuUs();
  caller.close();
  const downloadMs = await moveBytes(bulkSocket, "/bulk/Download");
  const afterDownload = await readCpuUs();
  const uploadMs = await moveBytes(bulkSocket, "/bulk/Upload");
  const afterUpload = await readCpuUs();
  const megabytes = streamBytes / 1e6;
  return {
    rates: {
      unaryMedianUs: one.medianUs,
      unaryRateOne: one.rate,
      unaryRateSixteen: sixteen.rate,
      downloadMegabytesPerSecond: megabytes / (downloadMs / 1e3),
      uploadMegabytesPerSecond: megabytes / (uploadMs / 1e3),
    },
    cost: {
      unaryCpuUsPerCall: (afterCalls - beforeCalls) / (sixteen.rate * (callMs / 1e3)),
      downloadCpuNsPerByte: ((afterDownload - afterCalls) * 1e3) / streamBytes,
      uploadCpuNsPerByte: ((afterUpload - afterDownload) * 1e3) / streamBytes,
    },
  };
}

/** Makes empty unary calls with as little work of its own as possible, so that it measures the others. */
class RawCaller {
  readonly #socket: net.Socket;
  readonly #body: Buffer;
  readonly #head: Buffer;
  #received: Buffer = Buffer.alloc(0);
  #nextStreamId = 1;
  readonly #startedMs = new Map<number, number>();
  #latenciesUs: number[] = [];
  #deadlineMs = 0;
  #onDone: () => void = () => undefined;

  private constructor(socket: net.Socket) {
    this.#socket = socket;
    this.#head = headers(0, grpcRequest(echoPath("unary")));
    this.#body = data(0, grpcMessage(Buffer.alloc(0)), { end: true });
    socket.write(Buffer.concat([preface, settings(), windowUpdate(0, 0x7000_0000)]));
    socket.on("data", (chunk: Buffer) => this.#read(chunk));
  }

  static async open(path: string): Promise<RawCaller> {
    const socket = net.connect(path);
    await once(socket, "connect");
    return new RawCaller(socket);
  }

  async run(inFlight: number, forMs: number): Promise<{ medianUs: number; rate: number }> {
    this.#latenciesUs = [];
    this.#deadlineMs = performance.now() + forMs;
    await new Promise<void>((resolve) => {
      this.#onDone = resolve;
      for (let index = 0; index < inFlight; index++) {
        this.#call();
      }
    });
    const sorted = this.#latenciesUs.sort((left, right) => left - right);
    return { medianUs: sorted[sorted.length >> 1] ?? 0, rate: sorted.length / (forMs / 1e3) };
  }

  close(): void {
    this.#socket.destroy();
  }

  #call(): void {
    const streamId = this.#nextStreamId;
    this.#nextStreamId += 2;
    const call = Buffer.concat([this.#head, this.#body]);
    call.writeUInt32BE(streamId, 5);
    call.writeUInt32BE(streamId, this.#head.length + 5);
    this.#startedMs.set(streamId, performance.now());
    this.#socket.write(call);
  }

  #read(chunk: Buffer): void {
    this.#received = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk]);
    let at = 0;
    this.#socket.cork();
    while (this.#received.length - at >= 9) {
      const frameEnd = at + 9 + this.#received.readUIntBE(at, 3);
      if (frameEnd > this.#received.length) {
        break;
      }
      const isEnd = ((this.#received[at + 4] ?? 0) & Flags.END_STREAM) !== 0;
      if (this.#received[at + 3] === Type.HEADERS && isEnd) {
        this.#finish(this.#received.readUInt32BE(at + 5));
      }
      at = frameEnd;
    }
    this.#socket.uncork();
    this.#received = this.#received.subarray(at);
  }

  #finish(streamId: number): void {
    const nowMs = performance.now();
    this.#latenciesUs.push((nowMs - (this.#startedMs.get(streamId) ?? nowMs)) * 1e3);
    this.#startedMs.delete(streamId);
    if (nowMs < this.#deadlineMs) {
      this.#call();
    } else if (this.#startedMs.size === 0) {
      this.#onDone();
    }
  }
}

/** Moves 64 MiB in one stream; returns how long it took. */
async function moveBytes(socketPath: string, path: string): Promise<number> {
  const session = http2.connect("http://localhost", {
    createConnection: () => net.connect(socketPath),
    settings: serviceSettings,
  });
  await once(session, "connect");
  session.setLocalWindowSize(connectionWindowBytes);
  const startedMs = performance.now();
  const stream = session.request({ ":method": "POST", ":path": path });
  if (path === "/bulk/Upload") {
    const block = Buffer.alloc(blockBytes);
    for (let leftBytes = streamBytes; leftBytes > 0; leftBytes -= blockBytes) {
      if (!stream.write(block)) {
        await once(stream, "drain");
      }
    }
  }
  stream.end();
  stream.resume();
  await once(stream, "end");
  const tookMs = performance.now() - startedMs;
  session.destroy();
  return tookMs;
}

function medians(rounds: readonly (Round | RelayCost)[]): Record<string, number> {
  const samples = rounds.map((round) => new Map<string, number>(Object.entries(round)));
  const names = [...(samples[0]?.keys() ?? [])];
  return Object.fromEntries(
    names.map((name) => {
      const values = samples.map((sample) => sample.get(name) ?? 0).sort((left, right) => left - right);
      return [name, Math.round((values[values.length >> 1] ?? 0) * 100) / 100];
    }),
  );
}

const [role, ...roleArguments] = process.argv.slice(2);
if (role === "service") {
  await runService(roleArguments);
} else if (role === "relay") {
  await runRelay(roleArguments);
} else {
  await runBench(Number(role ?? 3));
}
