import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { chmod, mkdir, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { createClient, type Transport } from "@connectrpc/connect";
import { execa } from "execa";
import { ErrorKind, isFailure } from "#base/errors.ts";
import type { ProcessName } from "#fleet/process-name.ts";
import { accountNames } from "#fleet/users.ts";
import { Health, HealthCheckResponse_ServingStatus as ServingStatus } from "#gen/grpc/health/v1/health_pb.ts";
import { connectRpc, type RpcConnection } from "#wire/client.ts";
import {
  type ContainerName,
  listBundles,
  listCgroups,
  removeCgroups,
  removeContainerTraces,
  shimSocketOf,
} from "./container-traces.ts";
import { type EventFollower, followEvents } from "./event-follower.ts";
import { uniqueNamespace } from "./namespace.ts";
import {
  hasInEnvironment,
  isRunning,
  killProcesses,
  listProcesses,
  type ProcessFacts,
  sendSignal,
  until,
  withDescendants,
} from "./processes.ts";
import { makeTemporaryDirectory, type TemporaryDirectory } from "./temporary-directory.ts";
import { traces } from "./traces.ts";

/** How a run of `ctr` ended. */
export interface CtrResult {
  readonly stdout: string;
  readonly stderr: string;
  /** Undefined when it was killed because it took longer than three minutes. */
  readonly exitCode: number | undefined;
}

/** A process of a daemon that can be named: those of the fleet, and its NATS server. */
export type DaemonProcess = ProcessName | "nats-server";

/** A daemon on directories and a socket of its own. */
export interface Daemon extends AsyncDisposable {
  readonly root: string;
  readonly state: string;
  /** Path of the socket. */
  readonly address: string;
  /** The namespace that `ctr` works in where it is told none. Nobody else on the machine has it. */
  readonly namespace: string;
  /** For clients of `#gen`; failures are `FlotillaError`. */
  readonly transport: Transport;
  /** Runs Debian's `ctr` on the daemon's socket. Resolves however it ends. */
  ctr(...args: string[]): Promise<CtrResult>;
  /** Starts `ctr events` and waits until it gets events. */
  followEvents(...filters: string[]): Promise<EventFollower>;
  /** Process id of a part; undefined when it does not run. All of containerd is the `gateway`. */
  pidOf(process: DaemonProcess): number | undefined;
  /** All that the daemon has logged. */
  log(): string;
  /** Asks the daemon to stop and waits for it, up to 70 s. Containers go on. @returns its exit status. */
  stop(): Promise<number | undefined>;
  /** Kills a part, as `kill -9` does, and waits until it is gone. */
  kill9(process: DaemonProcess): Promise<void>;
  /** Starts the daemon, which does not run, on the same directories, and waits until it serves. */
  start(): Promise<void>;
  /**
   * Ends every process that the daemon and its shims started, containers included, and removes their cgroups, their state,
   * all mounts and all directories; also when the daemon is dead already.
   */
  [Symbol.asyncDispose](): Promise<void>;
}

/** How a daemon is started. */
export interface DaemonOptions {
  /** Lines of TOML for its configuration file. */
  readonly config?: string;
  /** Plugins that are not loaded, besides those that tests have no use for. */
  readonly disabledPlugins?: readonly string[];
  /** Where its directory is made, in place of `/tmp`. */
  readonly parent?: string;
}

/** How a daemon is started that may serve the kubelet. */
interface KubeletDaemonOptions extends DaemonOptions {
  /** Whether the kubelet is served. Where nothing is said it is not, so that tests of other things do not pay for it. */
  readonly cri?: boolean;
  /** Path of the network namespace that it runs in, in place of the machine's own. */
  readonly networkNamespace?: string;
}

/** How the distribution's containerd is started. */
export interface ContainerdOptions extends KubeletDaemonOptions {
  /** Plugins that are left out. */
  readonly disabledPlugins?: readonly string[];
}

/** How a daemon of ours is started. */
export interface FlotillaOptions extends KubeletDaemonOptions {
  /** Further flags. */
  readonly args?: readonly string[];
  /** Further environment variables, for all its processes. */
  readonly env?: Readonly<Record<string, string>>;
  /** Whether its processes run as users of their own, those of {@link userIds}; unless given, whether FLOTILLA_TEST_OWN_USERS is 1. */
  readonly hasOwnUsers?: boolean;
}

/** Ids that a daemon's processes have where they have their own. They need no names on the machine. */
export const userIds: Readonly<Record<string, number>> = Object.fromEntries(
  accountNames().map((name, index) => [name, 64_100 + index]),
);

/** What users run: the program from its bundles. */
const launcher = fileURLToPath(new URL("../../deploy/flotilla", import.meta.url));

/** Starts the whole fleet on a fresh directory and waits until its socket answers that it serves. */
export async function startFlotilla({
  config = "",
  parent,
  args = [],
  env = {},
  cri = false,
  networkNamespace,
  hasOwnUsers = process.env["FLOTILLA_TEST_OWN_USERS"] === "1",
  disabledPlugins = [],
}: FlotillaOptions = {}): Promise<Daemon> {
  const lists = [...(cri ? [] : ["io.containerd.grpc.v1.cri"]), ...disabledPlugins];
  const disabled = lists.length === 0 ? "" : `disabled_plugins = ${JSON.stringify(lists)}\n`;
  return await startDaemon("f", parent, {
    config: ({ optional }) => `version = 4
${disabled}${config}
[plugins."io.containerd.internal.v1.opt"]
path = "${optional}"
${config.includes("[debug]") ? "" : '[debug]\nformat = "json"\n'}
${hasOwnUsers ? usersConfig(config) : ""}`,
    isOpen: hasOwnUsers,
    command: networkNamespace === undefined ? launcher : "nsenter",
    args: ({ root, state, address, configPath }) => [
      ...(networkNamespace === undefined ? [] : [`--net=${networkNamespace}`, launcher]),
      "--root",
      root,
      "--state",
      state,
      "--address",
      address,
      "--config",
      configPath,
      ...args,
    ],
    env,
  });
}

/** Insists on the users, unless the test has a table of that plugin itself. */
function usersConfig(config: string): string {
  const table = 'plugins."io.flotilla.fleet.v1.supervisor"';
  const ids = Object.entries(userIds).map(([name, id]) => `${name} = ${id}\n`);
  const insist = config.includes(table) ? "" : `[${table}]\nusers = "own"\n`;
  return `${insist}[${table}.user_ids]\n${ids.join("")}`;
}

/** Starts Debian's containerd on a fresh directory, without CRI unless it is wanted, and waits until its socket answers that it serves. */
export async function startContainerd({
  config = "",
  parent,
  disabledPlugins = [],
  cri = false,
  networkNamespace,
}: ContainerdOptions = {}): Promise<Daemon> {
  return await startDaemon("c", parent, {
    config: ({ root, state, address, optional }) => `version = 2
root = "${root}"
state = "${state}"
disabled_plugins = ${JSON.stringify([...(cri ? [] : ["io.containerd.grpc.v1.cri"]), ...disabledPlugins])}
[grpc]
  address = "${address}"
[plugins."io.containerd.internal.v1.opt"]
  path = "${optional}"
${config}
`,
    command: networkNamespace === undefined ? "containerd" : "nsenter",
    args: ({ configPath }) => [
      ...(networkNamespace === undefined ? [] : [`--net=${networkNamespace}`, "containerd"]),
      "--config",
      configPath,
    ],
    env: {},
  });
}

interface Paths {
  readonly root: string;
  readonly state: string;
  readonly address: string;
  readonly configPath: string;
  readonly logPath: string;
  /** Where containerd looks for further programs. */
  readonly optional: string;
}

interface Recipe {
  readonly config: (paths: Paths) => string;
  readonly command: string;
  readonly args: (paths: Paths) => readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Whether other users may pass through its directory. */
  readonly isOpen?: boolean;
}

const startMsMax = 60_000;
const stopMsMax = 70_000;
const ctrMsMax = 180_000;
const logTailLines = 40;
/** In the environment of every process of a daemon; its value is the daemon's directory. */
const markVariable = "FLOTILLA_TEST_DIRECTORY";

async function startDaemon(letter: string, parent: string | undefined, recipe: Recipe): Promise<Daemon> {
  await using resources = new AsyncDisposableStack();
  const directory = await makeTemporaryDirectory(letter, parent);
  if (recipe.isOpen === true) {
    await chmod(directory.path, 0o711);
  }
  const daemon = resources.use(await RunningDaemon.prepare(directory, recipe));
  await daemon.start();
  resources.move();
  return daemon;
}

function launch({ command, args, env }: Recipe, paths: Paths, mark: string): ChildProcess {
  const log = openSync(paths.logPath, "a");
  try {
    return spawn(command, args(paths), {
      env: { ...process.env, ...env, [markVariable]: mark },
      stdio: ["ignore", log, log],
    });
  } finally {
    closeSync(log);
  }
}

class RunningDaemon implements Daemon {
  readonly root: string;
  readonly state: string;
  readonly address: string;
  readonly namespace = uniqueNamespace();
  readonly transport: Transport;
  readonly #recipe: Recipe;
  readonly #paths: Paths;
  readonly #directory: TemporaryDirectory;
  readonly #connection: RpcConnection;
  readonly #containers = new Map<string, ContainerName>();
  #child: ChildProcess | undefined;

  private constructor(recipe: Recipe, directory: TemporaryDirectory) {
    const { path } = directory;
    this.#recipe = recipe;
    this.#directory = directory;
    this.#paths = {
      root: `${path}/root`,
      state: `${path}/state`,
      address: `${path}/containerd.sock`,
      configPath: `${path}/config.toml`,
      logPath: `${path}/log`,
      optional: `${path}/opt`,
    };
    this.root = this.#paths.root;
    this.state = this.#paths.state;
    this.address = this.#paths.address;
    this.#connection = connectRpc(this.address);
    this.transport = this.#connection.transport;
  }

  static async prepare(directory: TemporaryDirectory, recipe: Recipe): Promise<RunningDaemon> {
    const daemon = new RunningDaemon(recipe, directory);
    await mkdir(daemon.#paths.optional);
    await writeFile(daemon.#paths.configPath, recipe.config(daemon.#paths));
    return daemon;
  }

  async start(): Promise<void> {
    this.#child = launch(this.#recipe, this.#paths, this.#directory.path);
    await this.#serving(this.#child);
  }

  async ctr(...args: string[]): Promise<CtrResult> {
    this.#noteNames(args);
    const { stdout, stderr, exitCode } = await execa("ctr", ["--address", this.address, ...args], {
      env: { CONTAINERD_NAMESPACE: this.namespace },
      reject: false,
      stdin: "ignore",
      stripFinalNewline: false,
      timeout: ctrMsMax,
      killSignal: "SIGKILL",
    });
    return { stdout, stderr, exitCode };
  }

  followEvents(...filters: string[]): Promise<EventFollower> {
    return followEvents(this, filters);
  }

  pidOf(process: DaemonProcess): number | undefined {
    const pid = this.#child?.pid;
    if (process === "gateway") {
      return this.#isAlive() ? pid : undefined;
    }
    // The NATS server is a child of the events process.
    const parent = process === "nats-server" ? this.pidOf("events") : pid;
    return this.#processes().find(({ parentPid, command }) => parentPid === parent && isNamed(command, process))?.pid;
  }

  log(): string {
    return readFileSync(this.#paths.logPath, "utf8");
  }

  async stop(): Promise<number | undefined> {
    const child = this.#child;
    if (child?.pid === undefined || !this.#isAlive()) {
      return child?.exitCode ?? undefined;
    }
    sendSignal(child.pid, "SIGTERM");
    await until(
      () => child.exitCode !== null || child.signalCode !== null,
      () => `the daemon does not stop:\n${this.#logTail()}`,
      stopMsMax,
    );
    return child.exitCode ?? undefined;
  }

  async kill9(process: DaemonProcess): Promise<void> {
    const pid = this.pidOf(process);
    if (pid === undefined) {
      throw new Error(`${process} does not run:\n${this.#logTail()}`);
    }
    await killProcesses([pid]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#connection.close();
    this.#noteBundles();
    const namespaces = new Set([...this.#containers.values()].map(({ namespace }) => namespace));
    await this.#killAll();
    this.#noteBundles();
    for (const container of this.#containers.values()) {
      await removeContainerTraces(this.address, container);
    }
    for (const namespace of namespaces) {
      await removeCgroups(this.#cgroupsOf(namespace));
    }
    await this.#directory[Symbol.asyncDispose]();
  }

  /** Kills until nothing is left, since what is being killed may be starting something. */
  async #killAll(): Promise<void> {
    for (let pids = this.#ownPids(); pids.size > 0; pids = this.#ownPids()) {
      await killProcesses(pids);
    }
  }

  #ownPids(): Set<number> {
    const processes = listProcesses();
    const roots = processes.filter((facts) => this.#isOwn(facts)).map(({ pid }) => pid);
    const own = withDescendants(new Set(roots), processes);
    own.delete(process.pid);
    return own;
  }

  /** By the mark in the environment, as shims by their `-address`, as processes of containers by their cgroup. */
  #isOwn({ pid, command, cgroups }: ProcessFacts): boolean {
    return (
      hasInEnvironment(pid, `${markVariable}=${this.#directory.path}\0`) ||
      command.includes(`${this.#directory.path}/`) ||
      [...this.#containers.values()].some(({ namespace, id }) =>
        cgroups.some((path) => `${path}/`.includes(`/${namespace}/${id}/`)),
      )
    );
  }

  /** The cgroups of our containers, and that of the namespace when it is empty then. */
  #cgroupsOf(namespace: string): string[] {
    const ids = [...this.#containers.values()].filter((name) => name.namespace === namespace).map(({ id }) => id);
    const all = listCgroups(namespace);
    const own = all.filter((path) => ids.some((id) => `${path}/`.includes(`/${namespace}/${id}/`)));
    const isEmpty = (path: string): boolean =>
      !all.some((other) => other.startsWith(`${path}/`) && !own.includes(other));
    return [...own, ...all.filter((path) => path.endsWith(`/${namespace}`) && isEmpty(path))];
  }

  #processes(): ProcessFacts[] {
    return listProcesses();
  }

  #isAlive(): boolean {
    const child = this.#child;
    // The kernel knows of an end before this process is told of it.
    return child?.pid !== undefined && child.exitCode === null && child.signalCode === null && isRunning(child.pid);
  }

  async #serving(child: ChildProcess): Promise<void> {
    const ended = new AbortController();
    const giveUp = AbortSignal.any([ended.signal, AbortSignal.timeout(startMsMax)]);
    child.once("exit", () => ended.abort());
    child.once("error", (error) => ended.abort(error));
    const health = createClient(Health, this.transport);
    const isServing = async (): Promise<boolean> => {
      try {
        const { status } = await health.check({}, { signal: giveUp });
        return status === ServingStatus.SERVING;
      } catch (error) {
        if (isFailure(error, ErrorKind.Unavailable) && !giveUp.aborted) {
          return false;
        }
        throw error;
      }
    };
    try {
      await until(isServing, () => "the socket does not answer", startMsMax);
    } catch (error) {
      const what = ended.signal.aborted ? "the daemon ended while it started" : "the daemon does not come up";
      throw new Error(`${what}:\n${this.#logTail()}`, { cause: error });
    }
  }

  #logTail(): string {
    return this.log().trimEnd().split("\n").slice(-logTailLines).join("\n");
  }

  #noteBundles(): void {
    for (const name of listBundles(this.state)) {
      this.#note(name);
    }
  }

  /** Any argument of `ctr` may be the id of a container; those that are none do no harm. */
  #noteNames(args: readonly string[]): void {
    const flag = args.findIndex((argument) => argument === "-n" || argument === "--namespace");
    const namespace = flag === -1 ? this.namespace : args[flag + 1];
    if (namespace !== undefined) {
      for (const id of args.filter((argument) => /^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(argument))) {
        this.#note({ namespace, id });
      }
    }
  }

  #note(name: ContainerName): void {
    this.#containers.set(`${name.namespace}/${name.id}`, name);
    traces.sockets.add(shimSocketOf(this.address, name));
  }
}

/** By the title that a process of the fleet gives itself, or by its program before it has done so. */
function isNamed(command: string, name: Exclude<DaemonProcess, "gateway">): boolean {
  return name === "nats-server"
    ? /(?:^|\/)nats-server(?: |$)/.test(command)
    : command === `flotilla: ${name}` || command.includes(`services-${name}-main.js`);
}
