import { mkdir } from "node:fs/promises";
import { resolve } from "node:path";
import { aborted } from "#base/aborted.ts";
import { ErrorKind, errorMessage, failure } from "#base/errors.ts";
import { logLevels } from "#config/config.ts";
import { parseArguments } from "#config/flag-syntax.ts";
import { Health, HealthCheckResponse_ServingStatus as ServingStatus } from "#gen/grpc/health/v1/health_pb.ts";
import { bindService, type Call, type ServiceBinding } from "#wire/handler.ts";
import { namespaceHeader } from "#wire/headers.ts";
import { serveRpc } from "#wire/server.ts";
import { endOnBug, forceExitAfter } from "../ends.ts";
import { logFailures } from "../failed-calls.ts";
import { type Logger, openLog } from "../log.ts";

/** What a part of the fleet that stands alone is told, and builds itself with. */
export interface StandaloneContext {
  /** Directory of everything that it keeps; it is there. */
  readonly root: string;
  /** Values of its own flags, by name. */
  readonly flags: ReadonlyMap<string, string>;
  readonly log: Logger;
  /** Owns what must be closed. */
  readonly resources: AsyncDisposableStack;
}

/** How long running calls may take when it stops. */
const drainMs = 5_000;
const stopMsMax = 10_000;

/**
 * Runs a part of the fleet alone, as a proxy plugin of a containerd: `--address SOCKET --root DIR [--log-level LEVEL]` and flags of its own. It serves one
 * socket, for the user who runs it, until SIGTERM or SIGINT.
 *
 * @param ownFlags - Names of flags that take a value.
 * @param compose - Gives the services. Calls without a namespace come in the namespace `default`.
 */
export async function runStandalone(
  name: string,
  ownFlags: readonly string[],
  compose: (context: StandaloneContext) => Promise<readonly ServiceBinding[]>,
): Promise<void> {
  process.title = `flotilla: serve ${name}`;
  const { values } = parseArguments(
    process.argv.slice(2),
    ["address", "root", "log-level", ...ownFlags].map((flag) => ({ names: [flag] as const })),
  );
  const level = logLevels.find((each) => each === (values.get("log-level") || "info"));
  const log = openLog(name, { level: level ?? "info", format: "text" });
  endOnBug(log);
  const stop = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => stop.abort());
  }
  await using resources = new AsyncDisposableStack();
  try {
    if (level === undefined) {
      throw failure(ErrorKind.InvalidArgument, `there is no log level ${JSON.stringify(values.get("log-level"))}`);
    }
    const address = pathOf(values, "address");
    const root = pathOf(values, "root");
    await mkdir(root, { recursive: true, mode: 0o700 });
    const services = await compose({ root, flags: values, log, resources });
    const server = await serveRpc({
      socketPath: address,
      socketMode: 0o600,
      services: [
        ...services.map(withDefaultNamespace),
        bindService(Health, { check: () => ({ status: ServingStatus.SERVING }) }),
      ],
      observer: logFailures(log),
    });
    resources.defer(() => server.close(drainMs));
    log.info({ address }, "serving...");
  } catch (error) {
    log.fatal({ err: error }, `failed to start: ${errorMessage(error)}`);
    process.exitCode = 1;
    forceExitAfter(stopMsMax);
    return;
  }
  await aborted(stop.signal);
  forceExitAfter(stopMsMax);
}

function pathOf(values: ReadonlyMap<string, string>, flag: string): string {
  const value = values.get(flag) ?? "";
  if (value === "") {
    throw failure(ErrorKind.InvalidArgument, `--${flag} must be given`);
  }
  return resolve(value);
}

/** containerd's collector makes calls without a namespace, and there is one space of names for all anyway. */
function withDefaultNamespace({ service, handlers }: ServiceBinding): ServiceBinding {
  const wrapped = Object.entries(handlers).map(([name, handler]) => {
    const answer = handler as (request: unknown, call: Call) => unknown;
    return [
      name,
      (request: unknown, call: Call) =>
        answer(request, {
          header: (header) => call.header(header) || (header === namespaceHeader ? "default" : undefined),
          signal: call.signal,
          acknowledge: () => call.acknowledge?.(),
        }),
    ];
  });
  return { service, handlers: Object.fromEntries(wrapped) as ServiceBinding["handlers"] };
}
