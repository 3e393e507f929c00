import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { createClient, type Transport } from "@connectrpc/connect";
import { type ProcessName, privateSocketOf } from "#fleet/process-name.ts";
import { Leases } from "#gen/containerd/services/leases/v1/leases_pb.ts";
import { Member } from "#gen/flotilla/fleet/v1/fleet_pb.ts";
import { Health } from "#gen/grpc/health/v1/health_pb.ts";
import { connectRpc, type RpcConnection } from "#wire/client.ts";
import { bindService, type ServiceBinding } from "#wire/handler.ts";
import { type RpcServer, serveRpc } from "#wire/server.ts";
import { compiledCode } from "../kit/compiled-code.ts";
import { makeTemporaryDirectory, type TemporaryDirectory } from "../kit/temporary-directory.ts";

const program = fileURLToPath(new URL("../../services/transfer/main.ts", import.meta.url));

/** A transfer process on a directory of its own, beside a metadata process that knows leases alone and a snapshots process that only describes itself. */
export class TransferProcess {
  /** The leases that there are, in every namespace. */
  readonly leases = new Set<string>();
  /** What the process has logged so far. */
  log = "";
  readonly #directory: TemporaryDirectory;
  readonly #connection: RpcConnection;
  readonly #child: ChildProcess;
  readonly #neighbours: RpcServer[] = [];

  private constructor(directory: TemporaryDirectory) {
    this.#directory = directory;
    const { path } = directory;
    const flags = ["--config", `${path}/config.toml`, "--root", `${path}/root`, "--state", `${path}/state`];
    this.#child = spawn(process.execPath, [program, ...flags], {
      env: { ...process.env, ...compiledCode },
      stdio: ["ignore", "ignore", "pipe"],
    });
    this.#child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.log += text;
    });
    this.#connection = connectRpc(privateSocketOf(`${path}/state`, "transfer"));
  }

  /** Starts a process, waits until it serves, and ends it with the test. */
  static async start(context: TestContext): Promise<TransferProcess> {
    const directory = await makeTemporaryDirectory("transfer");
    await writeFile(`${directory.path}/config.toml`, 'version = 4\n[debug]\nlevel = "debug"\n');
    const started = new TransferProcess(directory);
    context.after(() => started.#close());
    await started.#serve("metadata", [
      bindService(Leases, {
        list: ({ filters }) => ({
          leases: [...started.leases].filter((id) => filters.includes(`id=="${id}"`)).map((id) => ({ id })),
        }),
      }),
    ]);
    await started.#serve("snapshots", [
      bindService(Member, {
        describe: () => ({
          plugins: [
            { type: "io.containerd.snapshotter.v1", id: "overlayfs" },
            { type: "io.containerd.differ.v1", id: "walking" },
          ],
        }),
      }),
    ]);
    await createClient(Health, started.transport).check({});
    return started;
  }

  get transport(): Transport {
    return this.#connection.transport;
  }

  async #serve(neighbour: ProcessName, services: readonly ServiceBinding[]): Promise<void> {
    const socketPath = privateSocketOf(`${this.#directory.path}/state`, neighbour);
    this.#neighbours.push(await serveRpc({ socketPath, services }));
  }

  async #close(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const exited = once(this.#child, "exit");
      this.#child.kill("SIGKILL");
      await exited;
    }
    this.#connection.close();
    await Promise.all(this.#neighbours.map((server) => server.close(0)));
    await this.#directory[Symbol.asyncDispose]();
  }
}
