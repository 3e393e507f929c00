import { rename, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { fromBinary } from "@bufbuild/protobuf";
import { readFileIfThere } from "#base/durable-file.ts";
import { ErrorKind, errorMessage, FlotillaError, isFailure, wrapFailure } from "#base/errors.ts";
import type { LogLevel } from "#config/config.ts";
import { validateIdentifier } from "#containerd/identifier.ts";
import type { Logger } from "#fleet/log.ts";
import { DeleteResponseSchema, Task } from "#gen/containerd/task/v3/shim_pb.ts";
import type { Bundle } from "../../bundle.ts";
import { ProgramFailure, runProgram } from "../../program.ts";
import type { CreatedTask, Runtime, RuntimeTask, SandboxSupervisor, TaskCreation, TaskExit } from "../runtime.ts";
import { SupervisorGone } from "../runtime.ts";
import { isRuncShim, resolveRuntimeBinary } from "./binary.ts";
import { encodeStart, formatEndpoint, parseStartReply, type ShimEndpoint } from "./bootstrap.ts";
import { StartDialects } from "./dialect.ts";
import { openLogPipe } from "./log-pipe.ts";
import { requireMappedMounts, usesMappedMounts } from "./oci-features.ts";
import { ShimTask, sandboxVersion } from "./shim-task.ts";
import { shimSocketAddress } from "./socket-directory.ts";
import { removeDeadSocket } from "./socket-file.ts";

/** What shims are told about the daemon, and how long it waits for them. */
export interface ShimRuntimeOptions {
  readonly grpcAddress: string;
  /** Where shims send their events. */
  readonly ttrpcAddress: string;
  /** Path of the program that is the daemon, beside which shims are looked for too. */
  readonly daemonBinary: string;
  readonly daemonVersion: string;
  readonly socketDirectory: string;
  /** `NAME=value`, added to the environment of shims. */
  readonly environment: readonly string[];
  readonly logLevel: LogLevel;
  readonly timeouts: ShimTimeouts;
  readonly log: Logger;
  /** Whether a sandbox of that id is on record; its shim lives without tasks. */
  hasSandbox(namespace: string, id: string): Promise<boolean>;
}

/** Milliseconds. @source containerd v2.3.4 core/runtime/v2/shim.go `init` */
export interface ShimTimeouts {
  readonly loadMs: number;
  readonly cleanupMs: number;
  readonly shutdownMs: number;
}

const binaryFileName = "shim-binary-path";
const endpointFileName = "bootstrap.json";
const legacyAddressFileName = "address";
const sandboxFileName = "sandbox";
const logPipeName = "log";

/** How long a binary may take to start its shim. Virtual machines come up later, when the task is created. */
const startTimeoutMs = 60_000;
/** How long a shim that says it listens may take to accept a connection. */
const connectTimeoutMs = 10_000;

/**
 * The runtime of containerd's shims: a binary of its own for each kind of container, started once for a container or a
 * pod, and spoken to by ttrpc.
 *
 * @source containerd v2.3.4 core/runtime/v2 (binary.go, shim.go, shim_manager.go, shim_load.go, task_manager.go), docs/runtime-v2.md
 */
export class ShimRuntime implements Runtime {
  readonly #options: ShimRuntimeOptions;
  readonly #dialects = new StartDialects();
  readonly #binaries = new Map<string, string>();
  /** How many containers use the shim at an address. */
  readonly #users = new Map<string, number>();

  constructor(options: ShimRuntimeOptions) {
    this.#options = options;
  }

  async create(bundle: Bundle, wanted: TaskCreation): Promise<CreatedTask> {
    const shim = await this.#start(bundle, wanted).catch(async (error: unknown) => {
      // A binary that was killed for being slow may have left a shim behind.
      await (await this.#find(bundle))?.shutDown();
      throw wrapFailure(error, "failed to start shim");
    });
    try {
      wanted.signal.throwIfAborted();
      const { pid } = await shim.callOrDowngrade(
        Task.method.create,
        {
          ...wanted.request,
          id: bundle.id,
          bundle: bundle.path,
          ...(wanted.options === undefined ? {} : { options: wanted.options }),
        },
        { signal: wanted.signal },
      );
      return { task: shim, pid };
    } catch (error) {
      await this.#abandon(bundle, shim, wanted.sandbox !== undefined);
      throw wrapFailure(error, "failed to create shim task");
    }
  }

  async reconnect(bundle: Bundle): Promise<RuntimeTask | "dead" | "empty"> {
    const { loadMs } = this.#options.timeouts;
    const shim = await this.#find(bundle);
    if (shim === undefined) {
      return "dead";
    }
    try {
      const { taskPid } = await shim.callOrDowngrade(Task.method.connect, { id: bundle.id }, { timeoutMs: loadMs });
      if (taskPid !== 0 || (await this.#hasTask(bundle, shim))) {
        return shim;
      }
    } catch (error) {
      if (error instanceof SupervisorGone) {
        return "dead";
      }
      this.#options.log.warn(
        { ns: bundle.namespace, container: bundle.id, err: error },
        "shim listens and does not answer",
      );
      return shim;
    }
    this.#options.log.info({ ns: bundle.namespace, container: bundle.id }, "cleaning leaked shim process");
    await shim.shutDown();
    return "empty";
  }

  async cleanUp(bundle: Bundle): Promise<TaskExit | undefined> {
    const endpoint = await readEndpoint(bundle).catch(() => undefined);
    if (endpoint !== undefined) {
      await removeDeadSocket(endpoint.address);
    }
    const binary = await readFileIfThere(`${bundle.path}/${binaryFileName}`);
    if (binary === undefined) {
      return undefined;
    }
    const { log, timeouts } = this.#options;
    try {
      const { stdout, stderr } = await runProgram({
        path: binary,
        args: [...this.#arguments(bundle), "-bundle", bundle.path, ...this.#debugArguments(), "delete"],
        directory: bundle.path,
        environment: this.#environment(bundle, []),
        timeoutMs: timeouts.cleanupMs,
      });
      if (stderr.length > 0) {
        log.debug(
          { ns: bundle.namespace, container: bundle.id, stderr: stderr.toString("utf8") },
          "cleaned up after shim with warnings",
        );
      }
      const { pid, exitStatus, exitedAt } = fromBinary(DeleteResponseSchema, stdout);
      return { pid, exitStatus, exitedAt };
    } catch (error) {
      log.warn(
        { ns: bundle.namespace, container: bundle.id, err: describeFailure(error) },
        "failed to clean up after shim",
      );
      return undefined;
    }
  }

  /** Starts a shim, or joins the one of the sandbox, and connects to it. */
  async #start(bundle: Bundle, wanted: TaskCreation): Promise<ShimTask> {
    const joined = wanted.sandbox === undefined ? undefined : await this.#sandboxEndpoint(bundle, wanted.sandbox);
    if (wanted.sandbox !== undefined && joined !== undefined) {
      await writeFile(`${bundle.path}/${sandboxFileName}`, wanted.sandbox.sandboxId, { mode: 0o600 });
      await writeEndpoint(bundle, joined);
      return this.#connect(bundle, joined, connectTimeoutMs);
    }
    const binary = await this.#resolveBinary(wanted.runtime).catch((error: unknown) => {
      throw wrapFailure(error, "failed to resolve runtime path");
    });
    if (wanted.spec !== undefined && usesMappedMounts(wanted.spec)) {
      await requireMappedMounts(binary, wanted.options).catch((error: unknown) => {
        throw wrapFailure(error, "failed to validate OCI runtime features");
      });
    }
    try {
      return await this.#startBinary(bundle, binary, wanted);
    } catch (error) {
      throw wrapFailure(error, "start failed");
    }
  }

  async #startBinary(bundle: Bundle, binary: string, wanted: TaskCreation): Promise<ShimTask> {
    const [dialects] = await Promise.all([
      this.#dialects.find(binary),
      writeFile(`${bundle.path}/${binaryFileName}`, binary, { mode: 0o600 }),
    ]);
    const log = this.#openLog(bundle);
    try {
      const endpoint = await this.#runStart(bundle, { binary, dialects, wanted });
      const [shim] = await Promise.all([
        this.#connect(bundle, endpoint, connectTimeoutMs, log),
        writeEndpoint(bundle, endpoint),
      ]);
      return shim;
    } catch (error) {
      log.close();
      throw error;
    }
  }

  /** Runs the binary in the first dialect that it takes. Its error is that of the last one. */
  async #runStart(
    bundle: Bundle,
    start: {
      readonly binary: string;
      readonly dialects: Awaited<ReturnType<StartDialects["find"]>>;
      readonly wanted: TaskCreation;
    },
  ): Promise<ShimEndpoint> {
    const { socketDirectory, environment, grpcAddress, ttrpcAddress, logLevel, daemonBinary, daemonVersion } =
      this.#options;
    let failed: unknown;
    for (const dialect of start.dialects) {
      try {
        const { stdout, stderr } = await runProgram({
          path: start.binary,
          args: [...this.#arguments(bundle), ...this.#debugArguments(), "start"],
          directory: bundle.path,
          environment: this.#environment(bundle, environment),
          input: encodeStart(dialect, {
            id: bundle.id,
            namespace: bundle.namespace,
            logLevel,
            daemonVersion,
            grpcAddress,
            ttrpcAddress,
            daemonBinary,
            socketDirectory,
            options: start.wanted.options,
          }),
          timeoutMs: startTimeoutMs,
        });
        const endpoint = parseStartReply(stdout.length > 0 ? stdout : stderr);
        await this.#dialects.settle(start.binary, dialect);
        return endpoint;
      } catch (error) {
        failed = describeFailure(error);
      }
    }
    throw failed;
  }

  /** The endpoint of a sandbox's shim if it may serve more than one container. */
  async #sandboxEndpoint(bundle: Bundle, sandbox: SandboxSupervisor): Promise<ShimEndpoint | undefined> {
    validateIdentifier(sandbox.sandboxId);
    let endpoint: ShimEndpoint | undefined;
    if (sandbox.address === "") {
      endpoint = await readEndpoint({ ...bundle, path: `${dirname(bundle.path)}/${sandbox.sandboxId}` });
      if (endpoint === undefined) {
        throw new FlotillaError(ErrorKind.NotFound, `can't find shim for sandbox ${sandbox.sandboxId}: not found`);
      }
    } else {
      const [protocol, address] = sandbox.address.split(/\+(.*)/s);
      if (protocol === undefined || address === undefined) {
        throw new FlotillaError(
          ErrorKind.Unknown,
          "the scheme of sandbox address should be in  the form of <protocol>+<unix|vsock|tcp>, i.e. ttrpc+unix or grpc+vsock",
        );
      }
      endpoint = { version: sandbox.version, protocol, address };
    }
    return endpoint.version >= sandboxVersion ? endpoint : undefined;
  }

  /** Ends what a failed creation has left, in the order of containerd. */
  async #abandon(bundle: Bundle, shim: ShimTask, isSandboxed: boolean): Promise<void> {
    const { cleanupMs } = this.#options.timeouts;
    await shim.call(Task.method.delete, { id: bundle.id }, { timeoutMs: cleanupMs }).catch(() => undefined);
    if (isSandboxed && shim.version >= sandboxVersion) {
      shim.letGo();
      return;
    }
    await shim.shutDown();
    await this.cleanUp(bundle);
  }

  /** Connects to the shim of a bundle that an earlier process made; undefined when nobody listens. */
  async #find(bundle: Bundle): Promise<ShimTask | undefined> {
    const { socketDirectory, grpcAddress, timeouts } = this.#options;
    const recorded = await readEndpoint(bundle).catch(() => undefined);
    // A process that was killed while a shim started knows no more than where the shim must be.
    const endpoint = recorded ?? {
      version: sandboxVersion,
      address: shimSocketAddress(socketDirectory, { grpcAddress, namespace: bundle.namespace, id: bundle.id }),
      protocol: "ttrpc",
    };
    try {
      const log = this.#openLog(bundle);
      try {
        return await this.#connect(bundle, endpoint, timeouts.loadMs, log);
      } catch (error) {
        log.close();
        throw error;
      }
    } catch (error) {
      this.#options.log.debug({ ns: bundle.namespace, container: bundle.id, err: error }, "no shim");
      return undefined;
    }
  }

  async #hasTask(bundle: Bundle, shim: ShimTask): Promise<boolean> {
    const { timeouts } = this.#options;
    try {
      await shim.call(Task.method.state, { id: bundle.id }, { timeoutMs: timeouts.loadMs });
      return true;
    } catch (error) {
      if (!isFailure(error, ErrorKind.NotFound)) {
        throw error;
      }
      return this.#options.hasSandbox(bundle.namespace, bundle.id);
    }
  }

  async #connect(
    bundle: Bundle,
    endpoint: ShimEndpoint,
    timeoutMs: number,
    log?: ReturnType<typeof openLogPipe>,
  ): Promise<ShimTask> {
    const shim = await ShimTask.connect(
      endpoint,
      {
        bundle,
        shutdownTimeoutMs: this.#options.timeouts.shutdownMs,
        isShared: (address) => (this.#users.get(address) ?? 0) > 1,
        afterShutdown: () => this.#cleanUpAfterForeignShim(bundle, endpoint),
        onEnd: () => {
          this.#count(endpoint.address, -1);
          log?.close();
        },
      },
      timeoutMs,
    );
    this.#count(endpoint.address, 1);
    return shim;
  }

  /**
   * Shims that know no sandboxes may leave clearing up to their binary. That of runc does not, which saves two programs on
   * each deletion.
   */
  async #cleanUpAfterForeignShim(bundle: Bundle, endpoint: ShimEndpoint): Promise<void> {
    const binary = await readFileIfThere(`${bundle.path}/${binaryFileName}`);
    if (binary !== undefined && endpoint.version < sandboxVersion && !isRuncShim(binary)) {
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

  #openLog({ path, namespace, id }: Bundle): ReturnType<typeof openLogPipe> {
    const { log } = this.#options;
    return openLogPipe(`${path}/${logPipeName}`, (line) => {
      const level = /\blevel=(?:warn|error|fatal|panic)/.test(line) ? "warn" : "debug";
      log[level]({ ns: namespace, container: id, shim: line }, "shim log");
    });
  }

  async #resolveBinary(runtime: string): Promise<string> {
    const known = this.#binaries.get(runtime);
    if (known !== undefined) {
      return known;
    }
    const found = await resolveRuntimeBinary(runtime, {
      path: process.env["PATH"] ?? "",
      besides: dirname(this.#options.daemonBinary),
    });
    this.#binaries.set(runtime, found);
    return found;
  }

  #arguments({ namespace, id }: Bundle): string[] {
    const { grpcAddress, daemonBinary } = this.#options;
    return ["-namespace", namespace, "-address", grpcAddress, "-publish-binary", daemonBinary, "-id", id];
  }

  #debugArguments(): string[] {
    return ["debug", "trace"].includes(this.#options.logLevel) ? ["-debug"] : [];
  }

  /** @source containerd v2.3.4 pkg/shim/util.go `Command` */
  #environment({ namespace }: Bundle, added: readonly string[]): NodeJS.ProcessEnv {
    return {
      ...process.env,
      GOMAXPROCS: "2",
      MAX_SHIM_VERSION: "2",
      TTRPC_ADDRESS: this.#options.ttrpcAddress,
      GRPC_ADDRESS: this.#options.grpcAddress,
      NAMESPACE: namespace,
      ...Object.fromEntries(added.map((entry) => entry.split(/=(.*)/s).slice(0, 2))),
    };
  }
}

/** Reads where the shim of a bundle listens, also in the form of containerd before 1.7. */
async function readEndpoint({ path }: Bundle): Promise<ShimEndpoint | undefined> {
  const recorded = await readFileIfThere(`${path}/${endpointFileName}`);
  const reply = recorded ?? (await readFileIfThere(`${path}/${legacyAddressFileName}`));
  return reply === undefined ? undefined : parseStartReply(Buffer.from(reply));
}

/** Writes where the shim listens, in one step. */
async function writeEndpoint({ path }: Bundle, endpoint: ShimEndpoint): Promise<void> {
  const target = `${path}/${endpointFileName}`;
  await writeFile(`${target}.new`, formatEndpoint(endpoint), { mode: 0o644 });
  await rename(`${target}.new`, target);
}

/** A failed program with what it printed, as containerd reports it. */
function describeFailure(error: unknown): unknown {
  if (!(error instanceof ProgramFailure)) {
    return error;
  }
  const { stdout, stderr } = error.output;
  const printed = Buffer.concat([stdout, stderr]).toString("utf8");
  return new FlotillaError(error.kind, `${printed}: ${errorMessage(error)}`, { cause: error });
}
