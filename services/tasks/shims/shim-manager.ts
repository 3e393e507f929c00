import { writeFileSync } from "node:fs";
import type { Any } from "@bufbuild/protobuf/wkt";
import { readFileIfThere } from "#base/durable-file.ts";
import { isFailure, systemErrorCode, wrapFailure } from "#base/errors.ts";
import type { Logger } from "#fleet/log.ts";
import type { RuntimeInfo } from "#gen/containerd/types/introspection_pb.ts";
import type { CallObserver } from "#wire/observe.ts";
import type { TaskExit } from "../domain/supervisor.ts";
import { isRuncShim } from "./binary.ts";
import type { ShimEndpoint } from "./bootstrap.ts";
import type { Bundle } from "./bundles.ts";
import { readEndpoint, writeEndpoint } from "./endpoint-file.ts";
import { type LogPipe, openLogPipe } from "./log-pipe.ts";
import { Shim, sandboxVersion } from "./shim.ts";
import { type DaemonFacts, ShimPrograms } from "./shim-programs.ts";
import { shimSocketAddress } from "./socket-directory.ts";
import { removeDeadSocket } from "./socket-file.ts";

/** Milliseconds. @source containerd v2.3.4 core/runtime/v2/shim.go `init` */
export interface ShimTimeouts {
  readonly loadMs: number;
  readonly cleanupMs: number;
  readonly shutdownMs: number;
}

export interface ShimManagerOptions {
  readonly daemon: DaemonFacts;
  readonly timeouts: ShimTimeouts;
  readonly log: Logger;
  /** Told of every call to a shim. */
  readonly observer?: CallObserver | undefined;
}

const binaryFileName = "shim-binary-path";
const logPipeName = "log";

/** How often a binary is run to clear up: on a busy machine it may be late once, and nobody else knows of what it would leave. */
const cleanUpTries = 2;

/** How long a shim that says it listens may take to accept a connection. */
const connectTimeoutMs = 10_000;

/**
 * Starts shims, finds them again and ends them, whatever they serve: one for each bundle, or one that several bundles share. It knows
 * nothing of containers.
 *
 * @source containerd v2.3.4 core/runtime/v2/shim_manager.go, shim_load.go, shim.go; docs/runtime-v2.md
 */
export class ShimManager {
  readonly #options: ShimManagerOptions;
  readonly #programs: ShimPrograms;
  /** How many bundles use the shim at an address. */
  readonly #users = new Map<string, number>();

  constructor(options: ShimManagerOptions) {
    this.#options = options;
    this.#programs = new ShimPrograms(options.daemon);
  }

  /** What a runtime tells of itself, see {@link ShimPrograms.info}. */
  info(runtime: string, options: Any | undefined): Promise<RuntimeInfo> {
    return this.#programs.info(runtime, options);
  }

  /** The path of the binary of a runtime, see {@link ShimPrograms.resolve}. */
  resolve(runtime: string): Promise<string> {
    return this.#programs.resolve(runtime);
  }

  /**
   * Starts the shim of a bundle and connects to it. When this fails, no shim is left.
   *
   * @param binary - Path of its program.
   * @throws {@link FlotillaError} what the program says, text unchanged.
   */
  async start(bundle: Bundle, binary: string, options: Any | undefined): Promise<Shim> {
    try {
      return await this.#startAndConnect(bundle, binary, options);
    } catch (error) {
      // A binary that was killed for being slow may have left a shim behind.
      await this.#endStray(bundle);
      throw error;
    }
  }

  /**
   * Connects to a shim that serves another bundle, and keeps in this bundle where it listens, and the path of its program, which clears up after
   * this bundle as well should the shim die.
   *
   * @param owner - The bundle for which it was started, if it is one of ours.
   */
  async join(bundle: Bundle, owner: Bundle, endpoint: ShimEndpoint): Promise<Shim> {
    const binary = await readBinaryPath(owner);
    if (binary !== undefined) {
      writeFileSync(`${bundle.path}/${binaryFileName}`, binary, { mode: 0o600 });
    }
    writeEndpoint(bundle, endpoint);
    return this.#connect(bundle, endpoint, { timeoutMs: connectTimeoutMs });
  }

  /**
   * Connects to the shim of a bundle that an earlier process made, bounded by the timeout `shim.load`.
   *
   * @returns undefined when nobody listens where it should.
   * @throws What keeps this from being told: a file that can't be read, a socket that is there and does not accept, a protocol that is not
   *   spoken here. The shim may live.
   */
  async find(bundle: Bundle): Promise<Shim | undefined> {
    const { daemon, timeouts } = this.#options;
    // A process that was killed while a shim started knows no more than where the shim must be.
    const endpoint = (await this.endpointOf(bundle)) ?? {
      version: sandboxVersion,
      address: shimSocketAddress(daemon.socketDirectory, { ...daemon, namespace: bundle.namespace, id: bundle.id }),
      protocol: "ttrpc",
    };
    const log = this.#openLog(bundle);
    try {
      return await this.#connect(bundle, endpoint, { timeoutMs: timeouts.loadMs, log });
    } catch (error) {
      log.close();
      if (!isAbsence(error)) {
        throw wrapFailure(error, `connect to the shim at ${endpoint.address}`);
      }
      this.#warn(bundle, error, `no shim listens at ${endpoint.address}`);
      return undefined;
    }
  }

  /**
   * Where the shim of a bundle listens, as it is written there; undefined when there is nothing that makes sense.
   *
   * @throws The system's error when the file can't be read.
   */
  async endpointOf(bundle: Bundle): Promise<ShimEndpoint | undefined> {
    try {
      return await readEndpoint(bundle);
    } catch (error) {
      if (!isFailure(error)) {
        throw error;
      }
      this.#warn(bundle, error, "what the bundle says of its shim makes no sense");
      return undefined;
    }
  }

  /**
   * Clears away what the dead shim of a bundle has left: its socket, and by its binary what it held. May be repeated.
   *
   * @returns How the container ended, as far as that is known; undefined when the binary failed, or is not known.
   */
  async cleanUp(bundle: Bundle): Promise<TaskExit | undefined> {
    const endpoint = await this.endpointOf(bundle);
    if (endpoint !== undefined) {
      await removeDeadSocket(endpoint.address);
    }
    const binary = await readBinaryPath(bundle);
    if (binary === undefined) {
      return undefined;
    }
    const { log, timeouts } = this.#options;
    for (let tried = 1; tried <= cleanUpTries; tried++) {
      try {
        const { exit, warnings } = await this.#programs.delete(bundle, binary, { timeoutMs: timeouts.cleanupMs });
        if (warnings !== "") {
          log.debug(
            { ns: bundle.namespace, container: bundle.id, stderr: warnings },
            "cleaned up after shim with warnings",
          );
        }
        return exit;
      } catch (error) {
        this.#warn(bundle, error, "failed to clean up after shim");
      }
    }
    return undefined;
  }

  async #startAndConnect(bundle: Bundle, binary: string, options: Any | undefined): Promise<Shim> {
    writeFileSync(`${bundle.path}/${binaryFileName}`, binary, { mode: 0o600 });
    await this.#programs.prepare(binary);
    const log = this.#openLog(bundle);
    try {
      const endpoint = await this.#programs.start(bundle, binary, options);
      writeEndpoint(bundle, endpoint);
      return await this.#connect(bundle, endpoint, { timeoutMs: connectTimeoutMs, log });
    } catch (error) {
      log.close();
      throw error;
    }
  }

  async #endStray(bundle: Bundle): Promise<void> {
    try {
      await (await this.find(bundle))?.shutDown();
    } catch (error) {
      this.#warn(bundle, error, "a shim that did not start may be left");
    }
  }

  async #connect(
    bundle: Bundle,
    endpoint: ShimEndpoint,
    { timeoutMs, log }: { readonly timeoutMs: number; readonly log?: LogPipe },
  ): Promise<Shim> {
    const surroundings = {
      observer: this.#options.observer,
      bundle,
      shutdownTimeoutMs: this.#options.timeouts.shutdownMs,
      isShared: (address: string) => (this.#users.get(address) ?? 0) > 1,
      afterShutdown: () => this.#cleanUpAfterForeignShim(bundle, endpoint),
      onEnd: () => {
        this.#count(endpoint.address, -1);
        log?.close();
      },
    };
    const shim = await Shim.connect(endpoint, surroundings, timeoutMs);
    this.#count(endpoint.address, 1);
    return shim;
  }

  /**
   * Shims that know no sandboxes may leave clearing up to their binary. That of runc does not, which saves two programs on
   * each deletion.
   */
  async #cleanUpAfterForeignShim(bundle: Bundle, endpoint: ShimEndpoint): Promise<void> {
    if (endpoint.version >= sandboxVersion) {
      return;
    }
    const binary = await readBinaryPath(bundle);
    if (binary !== undefined && !isRuncShim(binary)) {
      await this.cleanUp(bundle);
    }
  }

  #count(address: string, difference: number): void {
    const users = (this.#users.get(address) ?? 0) + difference;
    if (users > 0) {
      this.#users.set(address, users);
    } else {
      this.#users.delete(address);
    }
  }

  #openLog({ path, namespace, id }: Bundle): LogPipe {
    const { log } = this.#options;
    return openLogPipe(`${path}/${logPipeName}`, (line) => {
      const level = /\blevel=(?:warn|error|fatal|panic)/.test(line) ? "warn" : "debug";
      log[level]({ ns: namespace, container: id, shim: line }, "shim log");
    });
  }

  #warn({ namespace, id }: Bundle, error: unknown, message: string): void {
    this.#options.log.warn({ ns: namespace, container: id, err: error }, message);
  }
}

/** The path of the program that started the shim of a bundle, if one was. */
function readBinaryPath({ path }: Bundle): Promise<string | undefined> {
  return readFileIfThere(`${path}/${binaryFileName}`);
}

/** Tells whether connecting failed because nobody listens, and not for lack of descriptors, rights or time. */
function isAbsence(error: unknown): boolean {
  const code = systemErrorCode(error instanceof Error ? error.cause : undefined);
  return code === "ENOENT" || code === "ECONNREFUSED";
}
