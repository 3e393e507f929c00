import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { constants } from "node:fs";
import { copyFile, mkdir, open, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { create, type DescMessage, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { type Any, AnySchema } from "@bufbuild/protobuf/wkt";
import { type Client, createClient } from "@connectrpc/connect";
import { execa } from "execa";
import { ErrorKind, failure } from "#base/errors.ts";
import { privateSocketOf } from "#fleet/process-name.ts";
import { SandboxCreateSchema, SandboxExitSchema, SandboxStartSchema } from "#gen/containerd/events/sandbox_pb.ts";
import {
  TaskCreateSchema,
  TaskDeleteSchema,
  TaskExecAddedSchema,
  TaskExecStartedSchema,
  TaskExitSchema,
  TaskOOMSchema,
  TaskPausedSchema,
  TaskResumedSchema,
  TaskStartSchema,
} from "#gen/containerd/events/task_pb.ts";
import { type Container, Containers } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import { Content, WriteAction } from "#gen/containerd/services/content/v1/content_pb.ts";
import { Events } from "#gen/containerd/services/events/ttrpc/v1/events_pb.ts";
import { Namespaces } from "#gen/containerd/services/namespaces/v1/namespaces_pb.ts";
import { Store } from "#gen/containerd/services/sandbox/v1/sandbox_pb.ts";
import { Snapshots } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import { Tasks } from "#gen/containerd/services/tasks/v1/tasks_pb.ts";
import type { Envelope } from "#gen/containerd/types/event_pb.ts";
import { Blobs } from "#gen/flotilla/blobs/v1/blobs_pb.ts";
import { EventLog } from "#gen/flotilla/events/v1/log_pb.ts";
import { Member } from "#gen/flotilla/fleet/v1/fleet_pb.ts";
import { makeFifo } from "#linux/fifo.ts";
import { connectRpc, type RpcConnection } from "#wire/client.ts";
import { bindService } from "#wire/handler.ts";
import { clientHeaders, requireNamespace } from "#wire/headers.ts";
import { serveRpc } from "#wire/server.ts";
import { serveTtrpc } from "#wire/ttrpc/server.ts";
import { compiledCode } from "../kit/compiled-code.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";

const program = fileURLToPath(new URL("../../services/tasks/main.ts", import.meta.url));
const shimName = "containerd-shim-runc-v2";

/** Why containers can't be run on this machine, or false. */
export const lacksContainers: string | false = await (async () => {
  for (const name of [shimName, "runc", "busybox"]) {
    if ((await execa("which", [name], { reject: false })).exitCode !== 0) {
      return `${name} is not installed`;
    }
  }
  return process.geteuid?.() === 0 ? false : "containers need root";
})();

/** An event as a subscriber sees it, with its order. */
export interface SeenEvent {
  readonly topic: string;
  readonly namespace: string;
  readonly messageId: string | undefined;
  /** Fields of the payload. */
  readonly fields: Readonly<Record<string, unknown>>;
}

/** What the tests may want of a container. */
export interface ContainerWish {
  readonly args: readonly string[];
  readonly terminal?: boolean;
  readonly runtime?: string;
  readonly runtimeOptions?: Any;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly sandbox?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly extra?: Readonly<Record<string, unknown>>;
}

const eventSchemas: readonly DescMessage[] = [
  TaskCreateSchema,
  TaskStartSchema,
  TaskExitSchema,
  TaskDeleteSchema,
  TaskExecAddedSchema,
  TaskExecStartedSchema,
  TaskOOMSchema,
  TaskPausedSchema,
  TaskResumedSchema,
  SandboxCreateSchema,
  SandboxStartSchema,
  SandboxExitSchema,
];

/** Packs a message into an Any as containerd names types. */
export function packAny<D extends DescMessage>(schema: D, message: MessageInitShape<D>): Any {
  return create(AnySchema, { typeUrl: schema.typeName, value: toBinary(schema, create(schema, message)) });
}

/** Packs JSON of the runtime specification into an Any. */
export function packSpec(kind: "Spec" | "Process" | "LinuxResources", value: unknown): Any {
  return create(AnySchema, {
    typeUrl: `types.containerd.io/opencontainers/runtime-spec/1/${kind}`,
    value: Buffer.from(JSON.stringify(value)),
  });
}

/** The tasks process with real shims, among neighbours that are made here. Everything is cleaned up when it is disposed of. */
export class TasksRig implements AsyncDisposable {
  readonly namespace = `ft${randomBytes(4).toString("hex")}`;
  readonly directory: string;
  readonly events: SeenEvent[] = [];
  /** Blobs that were written to the content neighbour, by ref. */
  readonly written = new Map<string, Buffer>();
  /** What the process has logged. */
  log = "";
  /** Set to let the event log refuse what is appended. */
  refuseEvents = false;
  /** Called when somebody asks for the root file system of a container. */
  onMounts: (key: string) => void = () => undefined;
  readonly #cleanup: AsyncDisposableStack;
  readonly #logLevel: string;
  readonly #containers = new Map<string, MessageInitShape<(typeof Containers.method.get)["output"]>["container"]>();
  /** By id, who makes each. */
  readonly #sandboxes = new Map<string, string>();
  #waiting: (() => void)[] = [];
  #child: ChildProcess | undefined;
  #connection: RpcConnection | undefined;

  private constructor(directory: string, logLevel: string, cleanup: AsyncDisposableStack) {
    this.directory = directory;
    this.#logLevel = logLevel;
    this.#cleanup = cleanup;
  }

  /** Starts the neighbours and the process. */
  static async start({ logLevel = "info" } = {}): Promise<TasksRig> {
    const cleanup = new AsyncDisposableStack();
    try {
      const rig = new TasksRig(cleanup.use(await makeTemporaryDirectory("tasks")).path, logLevel, cleanup);
      await rig.#makeRootfs();
      await rig.#serveNeighbours();
      cleanup.defer(() => rig.#endShims());
      await rig.startProcess();
      return rig;
    } catch (error) {
      await cleanup.disposeAsync();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#cleanup.disposeAsync();
  }

  get tasks(): Client<typeof Tasks> {
    const connection = this.#connection;
    if (connection === undefined) {
      throw new Error("the process is not started");
    }
    return createClient(Tasks, connection.transport);
  }

  get headers(): { headers: Record<string, string> } {
    return { headers: clientHeaders(this.namespace) };
  }

  get transport() {
    if (this.#connection === undefined) {
      throw new Error("the process is not started");
    }
    return this.#connection.transport;
  }

  get state(): string {
    return `${this.directory}/state`;
  }

  get rootfs(): string {
    return `${this.directory}/rootfs`;
  }

  bundlePath(id: string): string {
    return `${this.state}/io.containerd.runtime.v2.task/${this.namespace}/${id}`;
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  async startProcess(): Promise<void> {
    const child = spawn(process.execPath, [program, "--config", `${this.directory}/config.toml`], {
      env: { ...process.env, ...compiledCode },
      stdio: ["ignore", "ignore", "pipe"],
    });
    this.#child = child;
    child.stderr.setEncoding("utf8");
    child.stderr.on("data", (text: string) => {
      this.log += text;
    });
    this.#connection ??= connectRpc(privateSocketOf(this.state, "tasks"), { keepsCalls: true });
    await createClient(Member, this.#connection.transport).describe({});
  }

  /** Ends the process and waits. */
  async endProcess(signal: "SIGKILL" | "SIGTERM"): Promise<number | null> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) {
      return null;
    }
    const exited = once(child, "exit");
    child.kill(signal);
    const [status] = (await exited) as [number | null];
    return status;
  }

  /** Puts a container on record. */
  addContainer(id: string, wish: ContainerWish): void {
    const { args, terminal = false, runtime = "io.containerd.runc.v2", runtimeOptions, annotations = {} } = wish;
    this.#containers.set(id, {
      id,
      runtime: { name: runtime, ...(runtimeOptions === undefined ? {} : { options: runtimeOptions }) },
      spec: packSpec("Spec", this.#spec(id, { ...wish, args, terminal, annotations })),
      sandbox: wish.sandbox ?? "",
      snapshotter: "overlayfs",
      snapshotKey: id,
      labels: { ...wish.labels },
      createdAt: { seconds: 1n, nanos: 0 },
    });
  }

  /** Changes labels of a container on record. */
  setLabels(id: string, labels: Readonly<Record<string, string>>): void {
    const container = this.#containers.get(id);
    if (container === undefined) {
      throw new Error(`no container ${id}`);
    }
    container.labels = { ...container.labels, ...labels };
  }

  /** The record of a container. */
  container(id: string) {
    return this.#containers.get(id);
  }

  addSandbox(id: string, sandboxer = ""): void {
    this.#sandboxes.set(id, sandboxer);
  }

  /** A specification of a process, for exec. */
  processSpec(args: readonly string[], { terminal = false } = {}): Any {
    return packSpec("Process", this.#process(args, terminal));
  }

  /** Creates and starts a task whose output goes nowhere. @returns its process id. */
  async run(id: string, args: readonly string[], wish: Partial<ContainerWish> = {}): Promise<number> {
    this.addContainer(id, { ...wish, args });
    await this.tasks.create({ containerId: id, ...this.bindRootfs() }, this.headers);
    return (await this.tasks.start({ containerId: id }, this.headers)).pid;
  }

  /** Kills a task, waits for its end and deletes it. */
  async remove(id: string): Promise<void> {
    const wait = this.tasks.wait({ containerId: id }, this.headers);
    await this.tasks.kill({ containerId: id, signal: 9 }, this.headers);
    await wait;
    await this.tasks.delete({ containerId: id }, this.headers);
  }

  /** The root file system as a client gives it: mounts for the shim. */
  bindRootfs() {
    return { rootfs: [{ type: "bind", source: this.rootfs, target: "", options: ["rbind", "rw"] }] };
  }

  /** Makes named pipes for the streams of a process and opens their near ends. */
  async openPipes(id: string, names: readonly ("stdin" | "stdout" | "stderr")[]): Promise<ProcessPipes> {
    const directory = `${this.directory}/fifo-${id}`;
    await mkdir(directory, { recursive: true });
    const paths: Record<string, string> = {};
    const output: Record<string, string> = {};
    let input: Awaited<ReturnType<typeof open>> | undefined;
    const ended: Promise<void>[] = [];
    const handles: Awaited<ReturnType<typeof open>>[] = [];
    for (const name of names) {
      const path = `${directory}/${name}`;
      makeFifo(path, 0o700);
      paths[name] = path;
      if (name === "stdin") {
        input = await open(path, constants.O_RDWR | constants.O_NONBLOCK);
        handles.push(input);
        continue;
      }
      output[name] = "";
      const cat = execa("cat", [path], { reject: false });
      ended.push(cat.then(({ stdout }) => void (output[name] = stdout)));
    }
    return {
      paths,
      output: async () => {
        await Promise.all(ended);
        return output;
      },
      write: async (text) => {
        await input?.write(text);
      },
      close: async () => {
        await Promise.all(handles.map((handle) => handle.close()));
      },
    };
  }

  /** Waits until an event satisfies a condition. */
  async event(matches: (event: SeenEvent) => boolean): Promise<SeenEvent> {
    for (;;) {
      const found = this.events.find(matches);
      if (found !== undefined) {
        return found;
      }
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  /** Topics of the events of one container in the order in which they were seen. */
  topicsOf(id: string): string[] {
    return this.events.filter(({ fields }) => fields["containerId"] === id).map(({ topic }) => topic);
  }

  /** Process ids of the shims of this rig's namespace. */
  async shims(): Promise<number[]> {
    const pids: number[] = [];
    for (const entry of await readdir("/proc")) {
      if (/^\d+$/.test(entry)) {
        const line = await readFile(`/proc/${entry}/cmdline`, "utf8").catch(() => "");
        if (line.includes(`-namespace\0${this.namespace}\0`)) {
          pids.push(Number(entry));
        }
      }
    }
    return pids;
  }

  #record(envelope: Envelope | undefined, messageId?: string): void {
    const { topic = "", namespace = "", event } = envelope ?? {};
    const schema = eventSchemas.find(({ typeName }) => typeName === event?.typeUrl);
    const fields =
      schema === undefined
        ? {}
        : (fromBinary(schema, event?.value ?? new Uint8Array()) as unknown as SeenEvent["fields"]);
    this.events.push({ topic, namespace, messageId, fields });
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const wake of waiting) {
      wake();
    }
  }

  async #serveNeighbours(): Promise<void> {
    const served = [
      serveRpc({
        socketPath: privateSocketOf(this.state, "metadata"),
        services: [
          bindService(Namespaces, { list: () => ({ namespaces: [{ name: this.namespace }] }) }),
          bindService(Containers, {
            list: () => ({
              containers: [...this.#containers.values()].filter((container) =>
                Object.hasOwn(container?.labels ?? {}, "containerd.io/restart.status"),
              ) as Container[],
            }),
            update: ({ container: { id = "", labels = {} } = {}, updateMask }) => {
              const container = this.#containers.get(id);
              for (const path of updateMask?.paths ?? []) {
                const key = path.replace(/^labels\./, "");
                this.setLabels(id, { [key]: labels[key] ?? "" });
              }
              return container === undefined ? {} : { container };
            },
            get: ({ id }, call) => {
              const container = this.#containers.get(id);
              if (container === undefined) {
                throw failure(ErrorKind.NotFound, `container "${id}" in namespace "${requireNamespace(call)}"`);
              }
              return { container };
            },
          }),
          bindService(Store, {
            get: ({ sandboxId }) => {
              const sandboxer = this.#sandboxes.get(sandboxId);
              if (sandboxer === undefined) {
                throw failure(ErrorKind.NotFound, `sandbox ${sandboxId}`);
              }
              return { sandbox: { sandboxId, sandboxer } };
            },
          }),
        ],
      }),
      serveRpc({
        socketPath: privateSocketOf(this.state, "snapshots"),
        services: [
          bindService(Snapshots, {
            mounts: ({ key }) => {
              this.onMounts(key);
              return { mounts: this.bindRootfs().rootfs };
            },
          }),
        ],
      }),
      serveRpc({
        socketPath: privateSocketOf(this.state, "events"),
        services: [
          bindService(EventLog, {
            append: ({ records }) => {
              if (this.refuseEvents) {
                throw failure(ErrorKind.Unavailable, "no stream");
              }
              for (const { envelope, messageId } of records) {
                this.#record(envelope, messageId);
              }
              return {};
            },
          }),
        ],
      }),
      serveRpc({
        socketPath: privateSocketOf(this.state, "content"),
        services: [bindService(Blobs, {}), bindService(Content, { write: (requests) => this.#write(requests) })],
      }),
      serveTtrpc({
        socketPath: `${this.directory}/g.sock.ttrpc`,
        services: [
          bindService(Events, {
            forward: ({ envelope }) => {
              this.#record(envelope);
              return {};
            },
          }),
        ],
      }),
    ];
    for (const server of await Promise.all(served)) {
      this.#cleanup.defer(() => server.close(0));
    }
    await writeFile(
      `${this.directory}/config.toml`,
      [
        "version = 3",
        `root = "${this.directory}/root"`,
        `state = "${this.state}"`,
        "[debug]",
        `level = "${this.#logLevel}"`,
        '[plugins."io.containerd.server.v1.grpc"]',
        `address = "${this.directory}/g.sock"`,
        '[plugins."io.containerd.server.v1.ttrpc"]',
        `address = "${this.directory}/g.sock.ttrpc"`,
        '[plugins."io.containerd.internal.v1.opt"]',
        `path = "${this.directory}/opt"`,
        '[plugins."io.containerd.monitor.container.v1.restart"]',
        'interval = "200ms"',
        "",
      ].join("\n"),
    );
  }

  async *#write(requests: AsyncIterable<{ action: WriteAction; ref: string; data: Uint8Array; expected: string }>) {
    const chunks: Uint8Array[] = [];
    for await (const { action, ref, data, expected } of requests) {
      chunks.push(data);
      if (action === WriteAction.COMMIT) {
        this.written.set(ref, Buffer.concat(chunks));
      }
      yield { action, digest: expected };
    }
  }

  async #makeRootfs(): Promise<void> {
    for (const name of ["bin", "proc", "dev", "sys", "tmp"]) {
      await mkdir(`${this.rootfs}/${name}`, { recursive: true });
    }
    const { stdout } = await execa("which", ["busybox"]);
    await copyFile(stdout, `${this.rootfs}/bin/busybox`);
    await execa("chmod", ["755", `${this.rootfs}/bin/busybox`]);
    for (const name of ["sh", "sleep", "cat", "echo", "true", "stty", "kill", "trap", "ps"]) {
      await symlink("busybox", `${this.rootfs}/bin/${name}`);
    }
  }

  #process(args: readonly string[], terminal: boolean) {
    const capabilities = ["CAP_KILL", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_SETUID", "CAP_SETGID"];
    return {
      terminal,
      user: { uid: 0, gid: 0 },
      args,
      env: ["PATH=/bin", "TERM=xterm"],
      cwd: "/",
      noNewPrivileges: true,
      capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
    };
  }

  #spec(id: string, { args, terminal = false, annotations, extra }: ContainerWish) {
    return {
      ociVersion: "1.0.2",
      process: this.#process(args, terminal),
      root: { path: "rootfs" },
      hostname: "test",
      annotations,
      mounts: [
        { destination: "/proc", type: "proc", source: "proc", options: ["nosuid", "noexec", "nodev"] },
        { destination: "/dev", type: "tmpfs", source: "tmpfs", options: ["nosuid", "mode=755"] },
        { destination: "/dev/pts", type: "devpts", source: "devpts", options: ["nosuid", "noexec", "newinstance"] },
      ],
      linux: {
        cgroupsPath: `/${this.namespace}/${id}`,
        namespaces: ["pid", "ipc", "uts", "mount", "network"].map((type) => ({ type })),
        resources: { devices: [{ allow: false, access: "rwm" }], memory: { limit: 64 * 1024 * 1024 } },
      },
      ...extra,
    };
  }

  /** Ends what a test has left running: the process, its shims and their containers, and what they left on the machine. */
  async #endShims(): Promise<void> {
    await this.endProcess("SIGKILL");
    this.#connection?.close();
    for (const id of await readdir(this.bundlePath("")).catch(() => [])) {
      const recorded = await readFile(`${this.bundlePath(id)}/bootstrap.json`, "utf8").catch(() => "");
      const socket = /unix:\/\/(\/run\/containerd\/s\/[0-9a-f]{64})/.exec(recorded)?.[1];
      if (socket !== undefined) {
        await rm(socket, { force: true });
      }
    }
    const runcRoot = `/run/containerd/runc/${this.namespace}`;
    for (const id of await readdir(runcRoot).catch(() => [])) {
      await execa("runc", ["--root", runcRoot, "delete", "--force", id], { reject: false });
    }
    for (const pid of await this.shims()) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It was faster.
      }
    }
    await rm(runcRoot, { recursive: true, force: true });
    for (const controller of await readdir("/sys/fs/cgroup").catch(() => [])) {
      await execa("find", [`/sys/fs/cgroup/${controller}/${this.namespace}`, "-depth", "-type", "d", "-delete"], {
        reject: false,
      });
    }
  }
}

/** The near ends of a process's streams. */
export interface ProcessPipes {
  readonly paths: Readonly<Record<string, string>>;
  /** All that came out until the writers closed. */
  output(): Promise<Readonly<Record<string, string>>>;
  write(text: string): Promise<void>;
  close(): Promise<void>;
}
