import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { createClient, type Transport } from "@connectrpc/connect";
import { Health } from "#gen/grpc/health/v1/health_pb.ts";
import { connectRpc, type RpcConnection } from "#wire/client.ts";
import { until } from "./processes.ts";

const launcher = fileURLToPath(new URL("../../deploy/flotilla", import.meta.url));
const startMsMax = 60_000;

/** `flotilla serve PART`, on a socket and a directory of its own. */
export class Standalone implements AsyncDisposable {
  readonly address: string;
  readonly transport: Transport;
  log = "";
  readonly #child: ChildProcess;
  readonly #connection: RpcConnection;

  private constructor(part: string, address: string, root: string, flags: readonly string[]) {
    this.address = address;
    this.#child = spawn(launcher, ["serve", part, "--address", address, "--root", root, ...flags], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    this.#child.stderr?.on("data", (chunk: Buffer) => {
      this.log += chunk.toString();
    });
    this.#connection = connectRpc(address);
    this.transport = this.#connection.transport;
  }

  /** Starts it and waits until it serves. */
  static async start(part: string, address: string, root: string, ...flags: string[]): Promise<Standalone> {
    const standalone = new Standalone(part, address, root, flags);
    const health = createClient(Health, standalone.transport);
    const ended = new Promise<"ended">((resolve) => standalone.#child.once("exit", () => resolve("ended")));
    const served = until(
      async () =>
        await health.check({}, { timeoutMs: 1_000 }).then(
          () => true,
          () => false,
        ),
      () => `flotilla serve ${part} does not come up:\n${standalone.log}`,
      startMsMax,
    );
    served.catch(() => undefined);
    if ((await Promise.race([served, ended])) === "ended") {
      standalone.#connection.close();
      throw new Error(`flotilla serve ${part} has ended:\n${standalone.log}`);
    }
    return standalone;
  }

  /** Ends it. @returns its exit status. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<number | null> {
    this.#connection.close();
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const ended = new Promise((resolve) => this.#child.once("exit", resolve));
      this.#child.kill(signal);
      await ended;
    }
    return this.#child.exitCode;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
