import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import net from "node:net";
import type { NatsAddress } from "../../services/events/bus/nats.ts";
import { type Identity, loopback, readIdentity } from "../../services/events/nats/identity.ts";
import { serverConfig } from "../../services/events/nats/server-config.ts";
import { until } from "../kit/processes.ts";
import { makeTemporaryDirectory, type TemporaryDirectory } from "../kit/temporary-directory.ts";

/** A nats-server that a test starts and kills itself, with the settings that the fleet gives to its own. */
export class NatsServer implements AsyncDisposable {
  readonly #home: TemporaryDirectory;
  readonly #identity: Identity;
  #child: ChildProcess;

  private constructor(home: TemporaryDirectory, identity: Identity) {
    this.#home = home;
    this.#identity = identity;
    this.#child = this.#spawn();
  }

  /** @param account - What JetStream may take in the account of the fleet; all that the server has unless given. */
  static async start(account: object | "enabled" = "enabled"): Promise<NatsServer> {
    const home = await makeTemporaryDirectory("nats");
    const identity = await readIdentity(`${home.path}/server.json`);
    const config = JSON.parse(
      serverConfig({
        identity,
        root: home.path,
        logFile: `${home.path}/log`,
        stream: "containerd",
        retentionBytes: 1024 * 1024 * 1024,
      }),
    );
    config.accounts.FLEET.jetstream = account;
    config.accounts.FLEET.users.push({ user: "tester", password: "secret" });
    await writeFile(`${home.path}/config`, JSON.stringify(config), { mode: 0o600 });
    const server = new NatsServer(home, identity);
    await server.#listening();
    return server;
  }

  /** Where the server is, with the key of the fleet's user. */
  get address(): NatsAddress {
    return { url: `nats://${loopback}:${this.#identity.port}`, seed: this.#identity.fleetSeed };
  }

  /** Where the server is, with a user and password who may do what the fleet may. */
  get url(): string {
    return `nats://tester:secret@${loopback}:${this.#identity.port}`;
  }

  /** Ends the server at once. */
  async kill(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const exited = once(this.#child, "exit");
      this.#child.kill("SIGKILL");
      await exited;
    }
  }

  /** Starts the server again after it ended, on the same files. */
  async restart(): Promise<void> {
    this.#child = this.#spawn();
    await this.#listening();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    await this.#home[Symbol.asyncDispose]();
  }

  #spawn(): ChildProcess {
    return spawn("nats-server", ["--config", `${this.#home.path}/config`], { stdio: "ignore" });
  }

  async #listening(): Promise<void> {
    await until(
      () => answers(this.#identity.port),
      () => "nats-server does not listen",
      30_000,
    );
  }
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(port, loopback);
    socket.once("data", () => socket.destroy());
    socket.once("data", () => resolve(true));
    socket.once("error", () => resolve(false));
  });
}
