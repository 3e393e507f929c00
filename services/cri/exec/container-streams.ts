import type { Client } from "@connectrpc/connect";
import { ErrorKind, FlotillaError, wrapFailure } from "#base/errors.ts";
import type { Containers } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import { fromConnectError } from "#wire/errors.ts";
import { parseExactJson } from "../containers/spec/exact-json.ts";
import type { OciProcess, OciSpec } from "../containers/spec/oci-spec.ts";
import { criCall } from "../peers.ts";
import { hasHostNetwork, type PodTable } from "../store/pod.ts";
import { forwardPort } from "../streaming/port-connection.ts";
import type { ProcessStreams, StreamRuntime, TerminalSize } from "../streaming/stream-runtime.ts";
import { type ExecParts, type ExecWishes, runInContainer } from "./exec-process.ts";
import { type ContainerFinder, findRunning } from "./streamed-container.ts";

/** What streams to containers and pods take. */
export interface ContainerStreamParts extends ExecParts {
  readonly containers: ContainerFinder;
  readonly pods: Pick<PodTable, "get">;
  /** Records of containers, which hold their specifications. */
  readonly records: Pick<Client<typeof Containers>, "get">;
}

/**
 * Runs a command in a container that runs, as `runInContainer` does.
 *
 * @throws {@link FlotillaError} `not_found`, or `unknown` when it does not run; what `runInContainer` throws.
 * @source containerd v2.3.4 internal/cri/server/container_execsync.go `execInContainer`
 */
export async function execInContainer(parts: ContainerStreamParts, id: string, wishes: ExecWishes): Promise<number> {
  try {
    const container = findRunning(parts.containers, id, `failed to find container "${id}" in store`);
    const { id: containerId, stateDirectory } = container;
    const findProcess = (): Promise<OciProcess> => processOf(parts, containerId);
    return await runInContainer(parts, { id: containerId, stateDirectory, findProcess }, wishes);
  } catch (error) {
    throw wrapFailure(error, "failed to exec in container");
  }
}

async function processOf({ records }: ContainerStreamParts, id: string): Promise<OciProcess> {
  let process: OciProcess | undefined;
  try {
    const { container: record } = await records.get({ id }, criCall());
    const text = Buffer.from(record?.spec?.value ?? new Uint8Array()).toString();
    ({ process } = parseExactJson(text) as OciSpec);
  } catch (thrown) {
    throw wrapFailure(fromConnectError(thrown), "failed to get container spec");
  }
  if (process === undefined) {
    throw new FlotillaError(ErrorKind.Unknown, `the specification of container "${id}" has no process`);
  }
  return process;
}

/**
 * What the streaming server lets clients do, with the containers and pods that are there.
 *
 * @param stopping - Kills commands that run for clients: who would get their output has gone when this process ends.
 * @source containerd v2.3.4 internal/cri/server/streaming.go `streamRuntime`
 */
export function containerStreams(parts: ContainerStreamParts, stopping: AbortSignal): StreamRuntime {
  return {
    exec: (containerId, command, streams) =>
      execInContainer(parts, containerId, { command, streams, timeoutMs: 0, signal: stopping }),
    attach: (containerId, streams, signal) => attachTo(parts, { containerId, streams, signal }),
    portForward: async (podId, port, stream, signal) => {
      const netnsPath = netnsPathOf(parts, podId);
      await forwardPort({ podId, netnsPath, port }, stream, signal);
    },
  };
}

/** @source containerd v2.3.4 internal/cri/server/container_attach.go `attachContainer` */
async function attachTo(
  parts: ContainerStreamParts,
  { containerId, streams, signal }: { containerId: string; streams: ProcessStreams; signal: AbortSignal },
): Promise<void> {
  const context = `failed to find container "${containerId}" in store`;
  const { id, io, stdinOnce } = findRunning(parts.containers, containerId, context);
  if (io === undefined) {
    throw new FlotillaError(ErrorKind.Unknown, `failed to load task: no running task found: ${ErrorKind.NotFound}`);
  }
  void resizeTerminal(parts, id, streams.resizes);
  const closesStdin = stdinOnce && !streams.tty;
  await io.attach(streams, {
    ...(closesStdin ? { closeStdin: () => closeStdin(parts, id) } : {}),
    signal,
  });
}

async function closeStdin({ tasks }: ContainerStreamParts, containerId: string): Promise<void> {
  await tasks.closeIO({ containerId, stdin: true }, criCall());
}

async function resizeTerminal(
  { tasks, log }: ContainerStreamParts,
  containerId: string,
  resizes: AsyncIterable<TerminalSize> | undefined,
): Promise<void> {
  for await (const { width, height } of resizes ?? []) {
    await tasks.resizePty({ containerId, width, height }, criCall()).catch((error: unknown) => {
      log.error({ container: containerId, err: error }, "a terminal could not be resized");
    });
  }
}

/** @source containerd v2.3.4 internal/cri/server/sandbox_portforward_linux.go `portForward` */
function netnsPathOf({ pods }: ContainerStreamParts, podId: string): string {
  try {
    const pod = pods.get(podId);
    if (hasHostNetwork(pod.config)) {
      return "";
    }
    if (pod.netnsPath !== "") {
      return pod.netnsPath;
    }
  } catch (error) {
    throw wrapFailure(error, `failed to find sandbox "${podId}" in store`);
  }
  throw new FlotillaError(ErrorKind.Unknown, `network namespace for sandbox "${podId}" is closed`);
}
