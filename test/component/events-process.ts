import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { createClient, type Transport } from "@connectrpc/connect";
import type { FleetConfig } from "#config/config.ts";
import { loadConfig } from "#config/load.ts";
import { privateSocketOf, shimEventsSocketOf } from "#fleet/process-name.ts";
import { Health } from "#gen/grpc/health/v1/health_pb.ts";
import { connectRpc, type RpcConnection } from "#wire/client.ts";
import { eventsPlugins } from "../../services/events/plugins.ts";
import { compiledCode } from "../kit/compiled-code.ts";
import { killProcesses, listProcesses, until } from "../kit/processes.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";

const program = fileURLToPath(new URL("../../services/events/main.ts", import.meta.url));

/** Where a process of the fleet runs: a directory with `config.toml`, `root` and `state`. */
export interface FleetHome {
  readonly directory: string;
  readonly config: FleetConfig;
}

/**
 * Makes a directory with a configuration for a fleet.
 *
 * @param settings - Lines of the table `io.flotilla.events.v1.nats`.
 */
export async function makeFleetHome(settings = ""): Promise<FleetHome & AsyncDisposable> {
  const home = await makeTemporaryDirectory("ev");
  const config = await writeConfig(home.path, settings);
  return { directory: home.path, config, [Symbol.asyncDispose]: () => home[Symbol.asyncDispose]() };
}

/** The events process, with the NATS server that it runs. */
export class EventsProcess implements AsyncDisposable {
  readonly #home: FleetHome;
  readonly #nodeFlags: readonly string[];
  /** What the process has logged so far. */
  log = "";
  #child: ChildProcess;
  #connection: RpcConnection;

  private constructor(home: FleetHome, nodeFlags: readonly string[]) {
    this.#home = home;
    this.#nodeFlags = nodeFlags;
    this.#child = this.#spawn();
    this.#connection = connectRpc(this.socketPath);
  }

  /**
   * Starts the process and waits until it serves.
   *
   * @param nodeFlags - Flags for Node.js itself.
   */
  static async start(home: FleetHome, nodeFlags: readonly string[] = []): Promise<EventsProcess> {
    const started = new EventsProcess(home, nodeFlags);
    try {
      await started.ready();
    } catch (error) {
      await started[Symbol.asyncDispose]();
      throw new Error(`the events process did not start: ${started.log}`, { cause: error });
    }
    return started;
  }

  get socketPath(): string {
    return privateSocketOf(this.#home.config.state, "events");
  }

  get ttrpcSocketPath(): string {
    return shimEventsSocketOf(this.#home.config.state);
  }

  get transport(): Transport {
    return this.#connection.transport;
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Process id of the NATS server that the process runs; undefined while it runs none. */
  get natsPid(): number | undefined {
    return listProcesses().find(
      ({ parentPid, command }) => parentPid === this.pid && /(?:^|\/)nats-server /.test(command),
    )?.pid;
  }

  /** Ends the NATS server at once, and waits until its owner has started another. */
  async killNats(): Promise<void> {
    const before = this.natsPid;
    await killProcesses(before === undefined ? [] : [before]);
    await until(
      () => this.natsPid !== undefined && this.natsPid !== before,
      () => `nats-server is not started again: ${this.log}`,
      30_000,
    );
  }

  /** Waits until the process serves, or throws when it ends before. */
  async ready(): Promise<void> {
    const given = new AbortController();
    const ended = once(this.#child, "close", { signal: given.signal }).then(() => {
      throw new Error(`the events process has ended: ${this.log}`);
    });
    try {
      await Promise.race([createClient(Health, this.transport).check({}), ended]);
    } finally {
      ended.catch(() => undefined);
      given.abort();
    }
  }

  /** Ends the process at once. */
  async kill(): Promise<void> {
    await end(this.#child, "SIGKILL");
  }

  /** Asks the process to stop and waits for it. @returns its exit status. */
  async stop(): Promise<number | null> {
    await end(this.#child, "SIGTERM");
    return this.#child.exitCode;
  }

  /** Starts the process again after it ended. */
  async restart(): Promise<void> {
    this.#child = this.#spawn();
    await this.ready();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    this.#connection.close();
  }

  #spawn(): ChildProcess {
    const { directory } = this.#home;
    const flags = [
      "--config",
      `${directory}/config.toml`,
      "--root",
      `${directory}/root`,
      "--state",
      `${directory}/state`,
    ];
    const child = spawn(process.execPath, [...this.#nodeFlags, program, ...flags], {
      env: { ...process.env, ...compiledCode },
      stdio: ["ignore", "ignore", "pipe"],
    });
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.log += text;
    });
    return child;
  }
}

async function writeConfig(directory: string, settings: string): Promise<FleetConfig> {
  await writeFile(`${directory}/config.toml`, `version = 3\n[plugins."io.flotilla.events.v1.nats"]\n${settings}\n`);
  const { config } = await loadConfig(
    { config: `${directory}/config.toml`, root: `${directory}/root`, state: `${directory}/state` },
    eventsPlugins,
  );
  return config;
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) {
    const exited = once(child, "exit");
    child.kill(signal);
    await exited;
  }
}
