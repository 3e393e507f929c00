import { ErrorKind, FlotillaError, wrapFailure } from "#base/errors.ts";
import { type Changes, unknownFate } from "#fleet/calls/changes.ts";
import { type AttachRequest, ContainerState, type ExecRequest, RuntimeService } from "#gen/runtime/v1/api_pb.ts";
import type { Handlers } from "#wire/handler.ts";
import type { ContainerEvents } from "../events/container-events.ts";
import { type ContainerStreamParts, execInContainer } from "../exec/container-streams.ts";
import { type ExecNames, endExec } from "../exec/exec-process.ts";
import { findRunning } from "../exec/streamed-container.ts";
import type { ByteSink } from "../logs/byte-streams.ts";
import type { StreamingServer } from "./streaming-server.ts";

/** What is kept of each output of a command at most. @source containerd v2.3.4 internal/cri/server/container_execsync.go `ExecSync` */
const outputBytesMax = 16 * 1024 * 1024;

/** What the calls stand on. */
export interface StreamingParts extends ContainerStreamParts {
  /** Carries out each call once that changes something. */
  readonly changes: Changes;
  readonly events: ContainerEvents;
  readonly server: Pick<StreamingServer, "urlForExec" | "urlForAttach" | "urlForPortForward">;
}

type StreamingCalls = Pick<
  Handlers<typeof RuntimeService>,
  "execSync" | "exec" | "attach" | "portForward" | "reopenContainerLog" | "getContainerEvents"
>;

/** Answers what has to do with input and output: commands, clients that follow, forwarded ports, logs, events. */
export function streamingCalls(parts: StreamingParts): StreamingCalls {
  const { containers, pods, server, events, changes } = parts;
  const { method } = RuntimeService;
  return {
    execSync: changes.once(method.execSync, undefined, async ({ containerId, cmd, timeout }, { signal }, attempt) => {
      if (attempt.noted !== undefined) {
        // Its output went to the former process, so that it is of no use any more.
        await endExec(parts, attempt.noted as ExecNames);
        throw unknownFate(`the command was run in container "${containerId}"`);
      }
      const [stdout, stderr] = [new OutputCollector(), new OutputCollector()];
      const exitCode = await execInContainer(parts, containerId, {
        command: cmd,
        streams: { stdout, stderr, tty: false },
        timeoutMs: Number(timeout) * 1000,
        signal,
        onNamed: attempt.note,
      });
      return { stdout: stdout.bytes(), stderr: stderr.bytes(), exitCode };
    }),
    exec: (request) => {
      findRunning(containers, request.containerId, `failed to find container "${request.containerId}" in store`);
      checkStreams(request, "one of stdin, stdout, or stderr must be set");
      return { url: server.urlForExec(request.containerId, request.cmd, request) };
    },
    attach: (request) => {
      findRunning(containers, request.containerId, "failed to find container in store");
      checkStreams(request, "one of stdin, stdout, and stderr must be set");
      return { url: server.urlForAttach(request.containerId, request) };
    },
    portForward: ({ podSandboxId, port }) => {
      let isReady: boolean;
      try {
        isReady = pods.get(podSandboxId).state === "ready";
      } catch (error) {
        throw wrapFailure(error, `failed to find sandbox "${podSandboxId}"`);
      }
      if (!isReady) {
        throw new FlotillaError(ErrorKind.Unknown, "sandbox container is not running");
      }
      return { url: server.urlForPortForward(podSandboxId, port) };
    },
    reopenContainerLog: ({ containerId }) => {
      let container: ReturnType<typeof containers.get>;
      try {
        container = containers.get(containerId);
      } catch (error) {
        throw wrapFailure(error, `an error occurred when try to find container "${containerId}"`);
      }
      if (container.state !== ContainerState.CONTAINER_RUNNING || container.io === undefined) {
        throw new FlotillaError(ErrorKind.Unknown, "container is not running");
      }
      container.io.reopenLog();
      return {};
    },
    getContainerEvents: (_request, call) => {
      // The kubelet waits for the headers before it trusts in being told.
      call.acknowledge?.();
      return events.subscribe(call.signal);
    },
  };
}

/** @source k8s.io/cri-streaming pkg/streaming/server.go `validateExecRequest`, `validateAttachRequest` */
function checkStreams(request: ExecRequest | AttachRequest, nothingWanted: string): void {
  if (request.tty && request.stderr) {
    throw new FlotillaError(ErrorKind.InvalidArgument, "tty and stderr cannot both be true");
  }
  if (!request.stdin && !request.stdout && !request.stderr) {
    throw new FlotillaError(ErrorKind.InvalidArgument, nothingWanted);
  }
}

/** Keeps the beginning of what a command puts out, and lets the rest go by. */
class OutputCollector implements ByteSink {
  readonly #pieces: Uint8Array[] = [];
  #leftBytes = outputBytesMax;

  write(bytes: Uint8Array): Promise<void> {
    if (this.#leftBytes > 0) {
      const piece = bytes.subarray(0, this.#leftBytes);
      this.#pieces.push(piece);
      this.#leftBytes -= piece.length;
    }
    return Promise.resolve();
  }

  end(): Promise<void> {
    return Promise.resolve();
  }

  bytes(): Uint8Array {
    return Buffer.concat(this.#pieces);
  }
}
