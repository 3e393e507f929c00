import { dirname } from "node:path";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { type Any, AnySchema } from "@bufbuild/protobuf/wkt";
import { errorMessage, FlotillaError, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import type { LogLevel } from "#config/config.ts";
import { DeleteResponseSchema } from "#gen/containerd/task/v3/shim_pb.ts";
import { type RuntimeInfo, RuntimeInfoSchema } from "#gen/containerd/types/introspection_pb.ts";
import { ProgramFailure, type ProgramOutput, runProgram } from "#linux/program.ts";
import type { TaskExit } from "../domain/supervisor.ts";
import { resolveRuntimeBinary } from "./binary.ts";
import { encodeStart, parseStartReply, type ShimEndpoint } from "./bootstrap.ts";
import type { Bundle } from "./bundles.ts";
import { StartDialects } from "./dialect.ts";

/** What shims are told about the daemon. */
export interface DaemonFacts {
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
}

/** How long a binary may take to start its shim. Virtual machines come up later, when the task is created. */
const startTimeoutMs = 60_000;
/** How long a binary may take to tell about its runtime. */
const infoTimeoutMs = 10_000;

/**
 * The binaries of shims as programs that are run to their end: `start`, `delete`, `-info`.
 *
 * @source containerd v2.3.4 core/runtime/v2/binary.go, task_manager.go `getRuntimeInfo`; pkg/shim/util.go `Command`
 */
export class ShimPrograms {
  readonly #daemon: DaemonFacts;
  readonly #dialects = new StartDialects();
  readonly #binaries = new Map<string, string>();

  constructor(daemon: DaemonFacts) {
    this.#daemon = daemon;
  }

  /**
   * The path of the binary of a runtime. Once found it stays.
   *
   * @param runtime - Name such as `io.containerd.runc.v2`, or an absolute path.
   * @throws {@link FlotillaError} `unknown` with containerd's text.
   */
  async resolve(runtime: string): Promise<string> {
    const known = this.#binaries.get(runtime);
    if (known !== undefined) {
      return known;
    }
    const found = await resolveRuntimeBinary(runtime, {
      path: process.env["PATH"] ?? "",
      besides: dirname(this.#daemon.daemonBinary),
    }).catch((error: unknown) => {
      throw wrapFailure(error, "failed to resolve runtime path");
    });
    this.#binaries.set(runtime, found);
    return found;
  }

  /** Finds out how a binary is to be told to start, so that this is known when {@link start} needs it. */
  async prepare(binary: string): Promise<void> {
    await this.#dialects.find(binary);
  }

  /**
   * Runs the binary in the first dialect that it takes.
   *
   * @returns Where its shim listens.
   * @throws {@link FlotillaError} what the binary said to the last dialect.
   */
  async start(bundle: Bundle, binary: string, options: Any | undefined): Promise<ShimEndpoint> {
    let failed: unknown;
    for (const dialect of await this.#dialects.find(binary)) {
      try {
        const { stdout, stderr } = await this.#run(bundle, binary, {
          action: "start",
          input: encodeStart(dialect, { ...this.#daemon, id: bundle.id, namespace: bundle.namespace, options }),
          environment: this.#daemon.environment,
          timeoutMs: startTimeoutMs,
        });
        const endpoint = parseStartReply(stdout.length > 0 ? stdout : stderr);
        await this.#dialects.settle(binary, dialect);
        return endpoint;
      } catch (error) {
        failed = error;
      }
    }
    throw failed;
  }

  /**
   * Lets the binary clear away what a dead shim has left.
   *
   * @returns How the container ended, and what the binary complained of.
   * @throws {@link FlotillaError} what the binary said.
   */
  async delete(
    bundle: Bundle,
    binary: string,
    { timeoutMs }: { readonly timeoutMs: number },
  ): Promise<{ readonly exit: TaskExit; readonly warnings: string }> {
    const { stdout, stderr } = await this.#run(bundle, binary, { action: "delete", timeoutMs });
    const { pid, exitStatus, exitedAt } = fromBinary(DeleteResponseSchema, stdout);
    return { exit: { pid, exitStatus, exitedAt }, warnings: stderr.toString("utf8") };
  }

  /**
   * Asks the binary about its runtime: version, features of the OCI runtime below it, annotations.
   *
   * @param options - Of the runtime, such as which OCI runtime is meant.
   * @throws {@link FlotillaError} `unknown` with containerd's text.
   */
  async info(runtime: string, options: Any | undefined): Promise<RuntimeInfo> {
    const binary = await this.resolve(runtime);
    const { stdout } = await runProgram({
      path: binary,
      args: ["-info"],
      environment: process.env,
      input: options === undefined ? undefined : toBinary(AnySchema, options),
      timeoutMs: infoTimeoutMs,
    }).catch((error: unknown) => {
      const stderr = error instanceof ProgramFailure ? error.output.stderr.toString("utf8") : "";
      const wrapped = wrapFailure(error, `failed to run [${binary} -info]`);
      throw new FlotillaError(wrapped.kind, `${wrapped.message} (stderr: ${quote(stderr)})`, { cause: error });
    });
    try {
      return fromBinary(RuntimeInfoSchema, stdout);
    } catch (error) {
      throw wrapFailure(error, `failed to unmarshal stdout from [${binary} -info] into *types.RuntimeInfo`);
    }
  }

  async #run(bundle: Bundle, binary: string, run: ShimRun): Promise<ProgramOutput> {
    const { grpcAddress, ttrpcAddress, daemonBinary, logLevel } = this.#daemon;
    const { namespace, id, path } = bundle;
    try {
      return await runProgram({
        path: binary,
        args: [
          "-namespace",
          namespace,
          "-address",
          grpcAddress,
          "-publish-binary",
          daemonBinary,
          "-id",
          id,
          ...(run.action === "delete" ? ["-bundle", path] : []),
          ...(["debug", "trace"].includes(logLevel) ? ["-debug"] : []),
          run.action,
        ],
        directory: path,
        environment: {
          ...process.env,
          GOMAXPROCS: "2",
          MAX_SHIM_VERSION: "2",
          TTRPC_ADDRESS: ttrpcAddress,
          GRPC_ADDRESS: grpcAddress,
          NAMESPACE: namespace,
          ...Object.fromEntries((run.environment ?? []).map((entry) => entry.split(/=(.*)/s).slice(0, 2))),
        },
        input: run.input,
        timeoutMs: run.timeoutMs,
      });
    } catch (error) {
      throw describeFailure(error);
    }
  }
}

interface ShimRun {
  readonly action: "start" | "delete";
  readonly input?: Uint8Array;
  readonly environment?: readonly string[];
  readonly timeoutMs: number;
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
