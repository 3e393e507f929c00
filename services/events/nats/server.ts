import { mkdir, rm } from "node:fs/promises";
import net from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { replaceFile } from "#base/durable-file.ts";
import { ErrorKind, failure } from "#base/errors.ts";
import type { Logger } from "#fleet/log.ts";
import { defaultRestartPolicy } from "#fleet/restart-policy.ts";
import { type Member, Supervisor } from "#fleet/supervisor.ts";
import { isListening } from "#linux/listening.ts";
import type { NatsAddress } from "../bus/nats.ts";
import { type Identity, loopback, readIdentity } from "./identity.ts";
import { serverConfig } from "./server-config.ts";

const memberName = "nats-server";
const readyMsMax = 10_000;
const pollMs = 5;
/** What the server's garbage collector aims at. */
const heapBytesMax = 96 * 1024 * 1024;

export interface ChildServerOptions {
  /** Directory of what the plugin keeps. */
  readonly root: string;
  /** Directory of what lives as long as the process. */
  readonly state: string;
  readonly stream: string;
  readonly retentionBytes: number;
  readonly log: Logger;
  /** Aborts the wait for the first start. */
  readonly interrupted: AbortSignal;
  /** Told when the server has used its budget of restarts up. */
  onFailed(): void;
}

/**
 * The NATS server that carries the events, as a child of this process: started, restarted when it dies, gone with this process
 * however that ends.
 *
 * Port and secrets are made at the first start and kept in `<root>/server.json`; `<root>/subscriber.url` and `<root>/subscriber.nk` say to
 * people where the server is and how to read there. Only their owner may read these files.
 *
 * Its port is on loopback, where everybody on the machine may listen while the server is down. So the server is spoken to only while it is
 * this child that listens there, before the connection is made and when it asks who we are, and what it asks for is a signature.
 */
export class ChildServer implements AsyncDisposable {
  readonly #options: ChildServerOptions;
  readonly #supervisor: Supervisor;
  #identity: Identity | undefined;

  constructor(options: ChildServerOptions) {
    this.#options = options;
    this.#supervisor = new Supervisor({
      policy: defaultRestartPolicy,
      log: options.log,
      interrupted: options.interrupted,
      onFailed: () => options.onFailed(),
    });
  }

  /**
   * Starts the server and goes on restarting it.
   *
   * @throws {@link FlotillaError} `unavailable` when it does not come up, `failed_precondition` when its secrets can't be read.
   */
  async start(): Promise<void> {
    await mkdir(this.#options.root, { recursive: true, mode: 0o700 });
    await mkdir(this.#options.state, { recursive: true, mode: 0o711 });
    await rm(this.#logFile, { force: true });
    await this.#supervisor.start(this.#member());
  }

  /** Process id of the server; undefined while it does not run. */
  get pid(): number | undefined {
    return this.#supervisor.pidOf(memberName);
  }

  /**
   * Where the server is, and what we say there.
   *
   * @throws {@link FlotillaError} `unavailable` while it is not there.
   */
  address(): NatsAddress {
    const { pid } = this;
    const identity = this.#identity;
    const isThere = (): boolean =>
      identity !== undefined && pid !== undefined && this.pid === pid && isListening(pid, identity.port);
    const requireChild = (): void => {
      if (!isThere()) {
        throw failure(ErrorKind.Unavailable, "nats-server is not running");
      }
    };
    requireChild();
    return { url: `nats://${loopback}:${identity?.port}`, seed: identity?.fleetSeed, beforeSigning: requireChild };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#supervisor.stop();
  }

  get #logFile(): string {
    return `${this.#options.state}/nats-server.log`;
  }

  #member(): Member {
    const configFile = `${this.#options.state}/nats-server.conf`;
    return {
      name: memberName,
      command: "nats-server",
      args: ["--config", configFile],
      // One core stores more events than the rest of the fleet can make, and more threads cost half as much again in waking each other.
      env: { GOMAXPROCS: "1", GOMEMLIMIT: `${heapBytesMax}`, GOGC: "50" },
      prepare: () => this.#prepare(configFile),
      awaitReady: (signal) => this.#awaitListening(signal),
    };
  }

  async #prepare(configFile: string): Promise<void> {
    const { root, stream, retentionBytes } = this.#options;
    const identity = await readIdentity(`${root}/server.json`);
    if (identity.port !== this.#identity?.port) {
      const { port, subscriberPassword, subscriberSeed } = identity;
      const config = serverConfig({ identity, root, logFile: this.#logFile, stream, retentionBytes });
      await replaceFile(configFile, config, { mode: 0o600 });
      const url = `nats://subscriber:${subscriberPassword}@${loopback}:${port}`;
      await replaceFile(`${root}/subscriber.url`, `${url}\n`, { mode: 0o600 });
      await replaceFile(`${root}/subscriber.nk`, `${subscriberSeed}\n`, { mode: 0o600 });
    }
    this.#identity = identity;
  }

  async #awaitListening(signal: AbortSignal): Promise<void> {
    const { pid } = this;
    const port = this.#identity?.port ?? 0;
    for (const deadline = performance.now() + readyMsMax; performance.now() < deadline; ) {
      // Who listens costs some milliseconds to find out, so it is asked only when somebody does.
      if (pid !== undefined && (await isTaken(port)) && isListening(pid, port)) {
        return;
      }
      await delay(pollMs, undefined, { signal });
    }
    throw failure(ErrorKind.Unavailable, `nats-server does not listen on ${loopback}:${port}`);
  }
}

/** Tells whether anybody takes connections on a port of ours. */
function isTaken(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = net.connect(port, loopback);
    probe.once("error", () => resolve(false));
    probe.once("connect", () => {
      probe.destroy();
      resolve(true);
    });
  });
}
