import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { createClient, type Transport } from "@connectrpc/connect";
import { privateSocketOf } from "#fleet/process-name.ts";
import { Health } from "#gen/grpc/health/v1/health_pb.ts";
import { connectRpc, type RpcConnection } from "#wire/client.ts";
import { type RpcServer, serveRpc } from "#wire/server.ts";
import { compiledCode } from "../kit/compiled-code.ts";
import { makeTemporaryDirectory, removeDirectory } from "../kit/temporary-directory.ts";
import { MemoryBlobIndex } from "./content-index.ts";

const program = fileURLToPath(new URL("../../services/content/main.ts", import.meta.url));

/** A content process on a directory of its own, with an index in memory beside it. */
export class ContentProcess {
  readonly index: MemoryBlobIndex;
  readonly directory: string;
  /** What the process has logged so far. */
  log = "";
  #server: RpcServer;
  #child: ChildProcess;
  #connection: RpcConnection;

  private constructor(directory: string, index: MemoryBlobIndex, server: RpcServer) {
    this.directory = directory;
    this.index = index;
    this.#server = server;
    this.#child = this.#spawn();
    this.#connection = connectRpc(privateSocketOf(`${directory}/state`, "content"));
  }

  /**
   * Starts the process and waits until it serves.
   *
   * @param prepare - Given the plugin's root, which is not there yet, and the index before the process starts.
   * @param config - Lines of its configuration.
   */
  static async start(
    prepare: (root: string, index: MemoryBlobIndex) => Promise<void> = () => Promise.resolve(),
    config = "",
  ): Promise<ContentProcess> {
    const { path: directory } = await makeTemporaryDirectory("content");
    await writeFile(`${directory}/config.toml`, `version = 3\n${config}\n[debug]\nformat = "json"\n`);
    const index = new MemoryBlobIndex();
    await prepare(rootIn(directory), index);
    const started = new ContentProcess(directory, index, await serveIndex(directory, index));
    await started.ready();
    return started;
  }

  get transport(): Transport {
    return this.#connection.transport;
  }

  /** The plugin's root: the directory with `blobs` and `ingest`. */
  get root(): string {
    return rootIn(this.directory);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Waits until the process serves, or throws when it ends before. */
  async ready(): Promise<void> {
    const given = new AbortController();
    const ended = once(this.#child, "exit", { signal: given.signal }).then(() => {
      throw new Error(`the content process ended: ${this.log}`);
    });
    try {
      await Promise.race([createClient(Health, this.transport).check({}), ended]);
    } finally {
      ended.catch(() => undefined);
      given.abort();
    }
  }

  /** Breaks the connections to the index, as its death does, and has it there again. */
  async breakIndex(): Promise<void> {
    await this.#server.close(0);
    this.#server = await serveIndex(this.directory, this.index);
  }

  /** Ends the process at once. */
  async kill(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const exited = once(this.#child, "exit");
      this.#child.kill("SIGKILL");
      await exited;
    }
  }

  /** Asks the process to stop and waits for it. @returns its exit status. */
  async stop(): Promise<number | null> {
    const exited = once(this.#child, "exit");
    this.#child.kill("SIGTERM");
    const [status] = (await exited) as [number | null];
    return status;
  }

  /** Starts the process again after it ended, on the same files. */
  async restart(): Promise<void> {
    this.#connection.close();
    this.#connection = connectRpc(privateSocketOf(`${this.directory}/state`, "content"));
    this.#child = this.#spawn();
    await this.ready();
  }

  async close(): Promise<void> {
    await this.kill();
    this.#connection.close();
    await this.#server.close(0);
    await removeDirectory(this.directory);
  }

  #spawn(): ChildProcess {
    const { directory } = this;
    const config = ["--config", `${directory}/config.toml`];
    const flags = [...config, "--root", `${directory}/root`, "--state", `${directory}/state`];
    const child = spawn(process.execPath, [program, ...flags], {
      env: { ...process.env, ...compiledCode },
      stdio: ["ignore", "ignore", "pipe"],
    });
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.log += text;
    });
    return child;
  }
}

function serveIndex(directory: string, index: MemoryBlobIndex): Promise<RpcServer> {
  return serveRpc({ socketPath: privateSocketOf(`${directory}/state`, "metadata"), services: [index.binding()] });
}

function rootIn(directory: string): string {
  return `${directory}/root/io.containerd.content.v1.content`;
}
