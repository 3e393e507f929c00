/**
 * Measures what a call costs a service and the relay: the same calls straight to a service and through the relay, in turns, as JSON.
 *
 * Service, relay and client are processes of their own. Rates depend on what else the machine does; the ratios and the
 * processor times much less.
 *
 *     node test/bench/relay.bench.ts [rounds]
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import net from "node:net";
import { fileURLToPath } from "node:url";
import { connectRpc } from "#wire/client.ts";
import { serveRpc } from "#wire/server.ts";
import { bindEcho, echoClient, echoPath, echoRoutes, plainEcho } from "../kit/echo-service.ts";
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
const blockBytes = 256 * 1024;

interface Round {
  unaryMedianUs: number;
  unaryRateOne: number;
  unaryRateSixteen: number;
  unaryRateSixtyFour: number;
  downloadMegabytesPerSecond: number;
  uploadMegabytesPerSecond: number;
}

interface Cost {
  sixteenCpuUsPerCall: number;
  sixtyFourCpuUsPerCall: number;
  downloadCpuNsPerByte: number;
  uploadCpuNsPerByte: number;
}

/** A service as ours are. */
async function runService([echoSocket = ""]: readonly string[]): Promise<void> {
  await serveRpc({ socketPath: echoSocket, services: [bindEcho(plainEcho)] });
  answerCpuUsage();
}

async function runRelay([socketPath = "", echoSocket = ""]: readonly string[]): Promise<void> {
  await listenRelay({ socketPath, routes: echoRoutes("echo"), heldMsMax: 10_000, socketOf: () => echoSocket });
  answerCpuUsage();
}

/** Tells the bench how much processor time this process has used, whenever it asks. */
function answerCpuUsage(): void {
  process.on("message", () => process.send?.(process.cpuUsage()));
  process.send?.("ready");
}

async function runBench(rounds: number): Promise<void> {
  await using directory = await makeTemporaryDirectory("bench");
  const echoSocket = `${directory.path}/echo.sock`;
  const relaySocket = `${directory.path}/relay.sock`;
  await using service = await start(["service", echoSocket]);
  await using relay = await start(["relay", relaySocket, echoSocket]);
  const direct: Round[] = [];
  const relayed: Round[] = [];
  const serviceCosts: Cost[] = [];
  const relayCosts: Cost[] = [];
  for (let round = 0; round < rounds; round++) {
    const straight = await measure(echoSocket, service.child);
    direct.push(straight.rates);
    serviceCosts.push(straight.cost);
    const { rates, cost } = await measure(relaySocket, relay.child);
    relayed.push(rates);
    relayCosts.push(cost);
  }
  const result = {
    direct: medians(direct),
    relayed: medians(relayed),
    service: medians(serviceCosts),
    relay: medians(relayCosts),
  };
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

/** Calls a socket, and sees what that costs a process. */
async function measure(socketPath: string, watched: ChildProcess): Promise<{ rates: Round; cost: Cost }> {
  const caller = await RawCaller.open(socketPath);
  await caller.run(1, 200);
  const one = await caller.run(1, callMs);
  const beforeCalls = await cpuUs(watched);
  const sixteen = await caller.run(16, callMs);
  const afterSixteen = await cpuUs(watched);
  const sixtyFour = await caller.run(64, callMs);
  const afterCalls = await cpuUs(watched);
  caller.close();
  const downloadMs = await download(socketPath);
  const afterDownload = await cpuUs(watched);
  const uploadMs = await upload(socketPath);
  const afterUpload = await cpuUs(watched);
  const megabytes = streamBytes / 1e6;
  return {
    rates: {
      unaryMedianUs: one.medianUs,
      unaryRateOne: one.rate,
      unaryRateSixteen: sixteen.rate,
      unaryRateSixtyFour: sixtyFour.rate,
      downloadMegabytesPerSecond: megabytes / (downloadMs / 1e3),
      uploadMegabytesPerSecond: megabytes / (uploadMs / 1e3),
    },
    cost: {
      sixteenCpuUsPerCall: (afterSixteen - beforeCalls) / (sixteen.rate * (callMs / 1e3)),
      sixtyFourCpuUsPerCall: (afterCalls - afterSixteen) / (sixtyFour.rate * (callMs / 1e3)),
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

/** Gets 64 MiB in one stream; returns how long it took. */
async function download(socketPath: string): Promise<number> {
  const connection = connectRpc(socketPath);
  const client = echoClient(connection.transport);
  await client.unary({ value: Buffer.alloc(0) });
  const startedMs = performance.now();
  let receivedBytes = 0;
  for await (const { value } of client.download({ value: BigInt(streamBytes) })) {
    receivedBytes += value.length;
  }
  const tookMs = performance.now() - startedMs;
  connection.close();
  if (receivedBytes !== streamBytes) {
    throw new Error(`${receivedBytes} of ${streamBytes} bytes came`);
  }
  return tookMs;
}

/** Sends 64 MiB in one stream; returns how long it took. */
async function upload(socketPath: string): Promise<number> {
  const connection = connectRpc(socketPath);
  const client = echoClient(connection.transport);
  await client.unary({ value: Buffer.alloc(0) });
  const block = Buffer.alloc(blockBytes);
  const startedMs = performance.now();
  const { value } = await client.upload(
    (async function* () {
      for (let leftBytes = streamBytes; leftBytes > 0; leftBytes -= blockBytes) {
        yield { value: block };
      }
    })(),
  );
  const tookMs = performance.now() - startedMs;
  connection.close();
  if (value !== BigInt(streamBytes)) {
    throw new Error(`${value} of ${streamBytes} bytes arrived`);
  }
  return tookMs;
}

function medians(rounds: readonly (Round | Cost)[]): Record<string, number> {
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
