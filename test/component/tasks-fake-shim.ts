import { spawn } from "node:child_process";
import { appendFileSync, readFileSync, writeFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { ErrorKind, failure } from "#base/errors.ts";
import { BootstrapParamsSchema, BootstrapResultSchema } from "#gen/containerd/runtime/bootstrap/v1/bootstrap_pb.ts";
import { Sandbox } from "#gen/containerd/runtime/sandbox/v1/sandbox_pb.ts";
import { Task as TaskV2 } from "#gen/containerd/task/v2/shim_pb.ts";
import { Task } from "#gen/containerd/task/v3/shim_pb.ts";
import { Status } from "#gen/containerd/v1/types/task_pb.ts";
import { bindService, type Handlers } from "#wire/handler.ts";
import { serveTtrpc } from "#wire/ttrpc/server.ts";

/**
 * A shim without containers, for what real shims do seldom. A container named `stillborn` can't be created. It is told how to behave by the JSON in its first argument; the
 * rest are the arguments of a shim. What it is asked goes into the file `diary`.
 */
export interface FakeShimBehaviour {
  readonly diary: string;
  /** Where the server listens. */
  readonly socket: string;
  /** How it says where it listens. */
  readonly reply: "plain" | "json" | "message" | "nothing";
  /** The version that it says. */
  readonly saidVersion?: number;
  /** The version of the task service that it serves. */
  readonly servedVersion: 2 | 3;
  /** Fails to start with this text on standard error. */
  readonly startFailure?: string;
  /** Takes this long to create a container, which it does not know of until then. What it creates and deletes is in the diary, too. */
  readonly createMs?: number;
  /** Takes this long to write down the state of a container. */
  readonly checkpointMs?: number;
  /** Refuses the parameters of the bootstrap protocol, as shims before it do. */
  readonly refusesParameters?: boolean;
}

const [behaviourText = "{}", ...args] = process.argv.slice(2);
const behaviour = JSON.parse(behaviourText) as FakeShimBehaviour;

function note(entry: Record<string, unknown>): void {
  appendFileSync(behaviour.diary, `${JSON.stringify(entry)}\n`);
}

function isParameters(input: Uint8Array): boolean {
  try {
    return fromBinary(BootstrapParamsSchema, input).containerdVersion !== "";
  } catch {
    return false;
  }
}

async function start(): Promise<void> {
  const input = readFileSync(0);
  note({ action: "start", args, cwd: process.cwd(), env: process.env, input: input.toString("base64") });
  if (behaviour.startFailure !== undefined || (behaviour.refusesParameters === true && isParameters(input))) {
    process.stderr.write(behaviour.startFailure ?? "type with url x: not found");
    process.exit(1);
  }
  const server = spawn(process.execPath, [process.argv[1] ?? "", behaviourText, ...args, "serve"], {
    detached: true,
    stdio: ["ignore", "pipe", "ignore"],
  });
  await new Promise((resolve) => server.stdout.once("data", resolve));
  const endpoint = {
    version: behaviour.saidVersion ?? behaviour.servedVersion,
    address: `unix://${behaviour.socket}`,
    protocol: "ttrpc",
  };
  const replies = {
    plain: endpoint.address,
    json: JSON.stringify(endpoint),
    message: toBinary(BootstrapResultSchema, create(BootstrapResultSchema, endpoint)),
    nothing: "",
  };
  writeFileSync(1, replies[behaviour.reply]);
  process.exit(0);
}

async function serve(): Promise<void> {
  const tasks = new Set<string>();
  const requireTask = (id: string): void => {
    if (!tasks.has(id)) {
      throw failure(ErrorKind.NotFound, "container not created");
    }
  };
  const handlers: Partial<Handlers<typeof Task>> = {
    create: async ({ id }) => {
      if (behaviour.createMs !== undefined) {
        note({ action: "creating", id });
        await delay(behaviour.createMs);
        note({ action: "created", id });
      }
      if (id === "stillborn") {
        throw failure(ErrorKind.Unknown, "made, and then lost");
      }
      tasks.add(id);
      return { pid: process.pid };
    },
    connect: ({ id }) => ({ shimPid: process.pid, taskPid: tasks.has(id) ? process.pid : 0 }),
    state: ({ id }) => {
      requireTask(id);
      return { id, pid: process.pid, status: Status.STOPPED };
    },
    kill: ({ id }) => {
      if (behaviour.createMs !== undefined) {
        note({ action: "killed", id });
      }
      requireTask(id);
      return {};
    },
    delete: ({ id }) => {
      requireTask(id);
      tasks.delete(id);
      if (behaviour.createMs !== undefined) {
        note({ action: "deleted", id });
      }
      return { pid: process.pid, exitStatus: 0 };
    },
    checkpoint: async ({ id }) => {
      note({ action: "checkpoint", id });
      await delay(behaviour.checkpointMs ?? 0);
      return {};
    },
    shutdown: ({ id }) => {
      note({ action: "shutdown", id });
      if (tasks.size === 0) {
        setImmediate(() => process.exit(0));
      }
      return {};
    },
  };
  await serveTtrpc({
    socketPath: behaviour.socket,
    services: [
      bindService(Sandbox, sandboxHandlers()),
      behaviour.servedVersion === 3 ? bindService(Task, handlers) : bindService(TaskV2, handlers as never),
    ],
  });
  process.stdout.write("ready");
}

/** One sandbox, whose end is a matter of StopSandbox; a sandbox named `no-start` does not start. */
function sandboxHandlers(): Partial<Handlers<typeof Sandbox>> {
  const ended = Promise.withResolvers<void>();
  let state = "SANDBOX_CREATED";
  return {
    createSandbox: ({ sandboxId, netnsPath, options }) => {
      note({ action: "createSandbox", sandboxId, netnsPath, options: options?.typeUrl });
      return {};
    },
    startSandbox: ({ sandboxId }) => {
      if (sandboxId === "no-start") {
        throw failure(ErrorKind.Unknown, "no room");
      }
      state = "SANDBOX_READY";
      return { pid: process.pid, createdAt: { seconds: 5n } };
    },
    platform: () => ({ platform: { os: "linux", architecture: "riscv64" } }),
    stopSandbox: ({ timeoutSecs }) => {
      note({ action: "stopSandbox", timeoutSecs });
      state = "SANDBOX_NOTREADY";
      ended.resolve();
      return {};
    },
    waitSandbox: async () => {
      await ended.promise;
      return { exitStatus: 7, exitedAt: { seconds: 9n } };
    },
    sandboxStatus: ({ sandboxId, verbose }) => ({
      sandboxId,
      pid: process.pid,
      state,
      info: verbose ? { more: "said" } : {},
    }),
    shutdownSandbox: () => {
      note({ action: "shutdownSandbox" });
      return {};
    },
    sandboxMetrics: ({ sandboxId }) => ({ metrics: { id: sandboxId } }),
  };
}

await (args.at(-1) === "serve" ? serve() : start());
