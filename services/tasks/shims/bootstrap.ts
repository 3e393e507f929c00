import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type Any, AnySchema } from "@bufbuild/protobuf/wkt";
import { ErrorKind, FlotillaError, failure } from "#base/errors.ts";
import type { LogLevel } from "#config/config.ts";
import {
  BootstrapParamsSchema,
  BootstrapResultSchema,
  LogLevel as ShimLogLevel,
} from "#gen/containerd/runtime/bootstrap/v1/bootstrap_pb.ts";

/** How to reach a shim, as it says itself when it starts and as `bootstrap.json` keeps it. */
export interface ShimEndpoint {
  /** Version of the task service. */
  readonly version: number;
  /** Such as `unix:///run/containerd/s/abc`. */
  readonly address: string;
  /** `ttrpc`, or what the shim says. */
  readonly protocol: string;
}

const versionMax = 3;

/**
 * What a binary reads from standard input when it is told to start: the options of the runtime alone, or the parameters of
 * the bootstrap protocol that came with containerd 2.3.
 */
export type StartDialect = "options" | "bootstrap";

/** What a shim is told when it starts. */
export interface ShimStart {
  readonly id: string;
  readonly namespace: string;
  readonly logLevel: LogLevel;
  readonly daemonVersion: string;
  readonly grpcAddress: string;
  readonly ttrpcAddress: string;
  /** Path of the daemon's own program. */
  readonly daemonBinary: string;
  /** Where its socket goes. */
  readonly socketDirectory: string;
  readonly options: Any | undefined;
}

const shimLogLevels: Record<LogLevel, ShimLogLevel> = {
  trace: ShimLogLevel.TRACE,
  debug: ShimLogLevel.DEBUG,
  info: ShimLogLevel.INFO,
  warn: ShimLogLevel.WARN,
  error: ShimLogLevel.ERROR,
  fatal: ShimLogLevel.FATAL,
  panic: ShimLogLevel.PANIC,
};

/**
 * Encodes what a shim reads from standard input when it starts.
 *
 * The two dialects don't mix: a shim of 1.6 takes the parameters for options of an unknown type and fails, and one of
 * 2.3 takes options for parameters with a wrong id. Without input both use their command line.
 *
 * @source containerd v2.3.4 pkg/shim/util.go `Command`; v1.6.20 runtime/v2/shim/util.go `Command`
 */
export function encodeStart(dialect: StartDialect, start: ShimStart): Uint8Array {
  if (dialect === "options") {
    return start.options === undefined ? new Uint8Array() : toBinary(AnySchema, start.options);
  }
  return toBinary(
    BootstrapParamsSchema,
    create(BootstrapParamsSchema, {
      instanceId: start.id,
      namespace: start.namespace,
      logLevel: shimLogLevels[start.logLevel],
      containerdVersion: start.daemonVersion,
      containerdTtrpcAddress: start.ttrpcAddress,
      containerdGrpcAddress: start.grpcAddress,
      containerdBinary: start.daemonBinary,
      extensions: start.options === undefined ? [] : [{ value: start.options }],
      socketDir: start.socketDirectory,
    }),
  );
}

/**
 * Parses what a shim prints when it has started, which is one of three things, by age: a protobuf message, JSON, or an
 * address alone, which stands for version 2 over ttrpc. `bootstrap.json` has the second form.
 *
 * @throws {@link FlotillaError} `not_implemented` for a version that is too new; `unknown` when there is no address.
 * @source containerd v2.3.4 core/runtime/v2/shim.go `parseStartResponse`
 */
export function parseStartReply(reply: Buffer): ShimEndpoint {
  const endpoint = findMessage(reply) ??
    findJson(reply) ?? { version: 2, address: reply.toString("utf8").trim(), protocol: "ttrpc" };
  if (endpoint.version > versionMax) {
    throw failure(ErrorKind.NotImplemented, `unsupported shim version (${endpoint.version})`);
  }
  if (!/^[\x21-\x7e]{1,256}$/.test(endpoint.address)) {
    throw new FlotillaError(ErrorKind.Unknown, "the shim did not say where it listens");
  }
  return endpoint;
}

/** Encodes an endpoint for `bootstrap.json`. */
export function formatEndpoint({ version, address, protocol }: ShimEndpoint): string {
  return JSON.stringify({ version, address, protocol });
}

function findMessage(reply: Buffer): ShimEndpoint | undefined {
  try {
    const { version, address, protocol } = fromBinary(BootstrapResultSchema, reply);
    return version > 0 && address !== "" ? { version, address, protocol } : undefined;
  } catch {
    return undefined;
  }
}

function findJson(reply: Buffer): ShimEndpoint | undefined {
  try {
    const parsed: unknown = JSON.parse(reply.toString("utf8"));
    return isEndpoint(parsed) && parsed.version >= 2 ? parsed : undefined;
  } catch {
    return undefined;
  }
}

function isEndpoint(value: unknown): value is ShimEndpoint {
  return (
    typeof value === "object" &&
    value !== null &&
    "version" in value &&
    typeof value.version === "number" &&
    "address" in value &&
    typeof value.address === "string" &&
    "protocol" in value &&
    typeof value.protocol === "string"
  );
}
