import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import type { DescService } from "@bufbuild/protobuf";
import { type Client, createClient, type Transport } from "@connectrpc/connect";
import { type ProcessName, privateSocketOf } from "#fleet/process-name.ts";
import { Blobs } from "#gen/flotilla/blobs/v1/blobs_pb.ts";
import { EventLog, type Record as EventRecord } from "#gen/flotilla/events/v1/log_pb.ts";
import { BlobIndex, SnapshotIndex } from "#gen/flotilla/index/v1/index_pb.ts";
import { Activations } from "#gen/flotilla/mounts/v1/activations_pb.ts";
import { SnapshotDirectories } from "#gen/flotilla/snapshots/v1/directories_pb.ts";
import { Health } from "#gen/grpc/health/v1/health_pb.ts";
import { connectRpc, type RpcConnection } from "#wire/client.ts";
import { bindService, type ServiceBinding } from "#wire/handler.ts";
import { clientHeaders } from "#wire/headers.ts";
import { type RpcServer, serveRpc } from "#wire/server.ts";
import { compiledCode } from "../kit/compiled-code.ts";

const program = fileURLToPath(new URL("../../services/metadata/main.ts", import.meta.url));

export interface MetadataOptions {
  /** Tables of plugins, as text of the configuration file. */
  readonly config?: string;
  readonly before?: (databasePath: string) => void;
}

/** What the neighbours of the process have been told. */
export class Neighbours {
  /** Events in the order in which they came, those sent again included. */
  readonly events: EventRecord[] = [];
  readonly removedDigests: string[] = [];
  readonly removedBackendRefs: string[] = [];
  readonly removedMounts: bigint[] = [];
  readonly removedSnapshots: { readonly snapshotter: string; readonly id: bigint }[] = [];
  /** While set, the events process refuses what it is given. */
  eventsRefused = false;
  /** While set, the content and snapshots processes remove nothing. */
  removalRefused = false;
  readonly #directory: string;
  readonly #servers = new Map<ProcessName, RpcServer>();
  readonly #listeners = new Set<() => void>();

  constructor(directory: string) {
    this.#directory = directory;
  }

  async start(peer: "events" | "content" | "snapshots"): Promise<void> {
    const server = await serveRpc({
      socketPath: privateSocketOf(`${this.#directory}/state`, peer),
      services: this.#bindings()[peer],
    });
    this.#servers.set(peer, server);
  }

  async stop(peer: ProcessName): Promise<void> {
    await this.#servers.get(peer)?.close(0);
    this.#servers.delete(peer);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#servers.values()].map((server) => server.close(0)));
  }

  /** Waits until what the neighbours were told fulfils a condition. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      await new Promise<void>((resolve) => {
        this.#listeners.add(resolve);
      });
    }
  }

  #checkRemoval(): void {
    if (this.removalRefused) {
      throw new Error("the disk is not there");
    }
  }

  #told(): void {
    for (const listener of this.#listeners) {
      listener();
    }
    this.#listeners.clear();
  }

  #bindings(): Record<"events" | "content" | "snapshots", ServiceBinding[]> {
    return {
      events: [
        bindService(EventLog, {
          append: ({ records }) => {
            if (this.eventsRefused) {
              throw new Error("no room");
            }
            this.events.push(...records);
            this.#told();
            return {};
          },
        }),
      ],
      content: [
        bindService(Blobs, {
          removeBlobs: async ({ digests, backendRefs }) => {
            this.#checkRemoval();
            const connection = connectRpc(privateSocketOf(`${this.#directory}/state`, "metadata"));
            const confirmed = await createClient(BlobIndex, connection.transport)
              .confirmCondemned({ digests })
              .finally(() => connection.close());
            this.removedDigests.push(...confirmed.digests);
            this.removedBackendRefs.push(...backendRefs);
            this.#told();
            return { removedDigests: confirmed.digests };
          },
        }),
      ],
      snapshots: [
        bindService(SnapshotDirectories, {
          removeSnapshots: ({ snapshotter, ids }) => {
            this.#checkRemoval();
            this.removedSnapshots.push(...ids.map((id) => ({ snapshotter, id })));
            this.#told();
            return { removedIds: ids };
          },
        }),
        bindService(Activations, {
          removeMounts: ({ ids }) => {
            this.#checkRemoval();
            this.removedMounts.push(...ids);
            this.#told();
            return { removedIds: ids };
          },
        }),
      ],
    };
  }
}

/** A metadata process on a directory of its own, with neighbours that remember what they are told. */
export class MetadataProcess {
  readonly directory: string;
  readonly neighbours: Neighbours;
  /** What the process has logged so far. */
  log = "";
  #child: ChildProcess;
  #connection: RpcConnection;

  private constructor(directory: string, neighbours: Neighbours) {
    this.directory = directory;
    this.neighbours = neighbours;
    this.#child = this.#spawn();
    this.#connection = connectRpc(privateSocketOf(`${directory}/state`, "metadata"));
  }

  /**
   * Starts a process with its neighbours, waits until it serves, and ends all with the test.
   *
   * @param options.before - Called with the path of the database before the process starts.
   */
  static async start(context: TestContext, options: MetadataOptions = {}): Promise<MetadataProcess> {
    const directory = await mkdtemp(join(tmpdir(), "flotilla-metadata-"));
    await writeFile(`${directory}/config.toml`, `version = 3\n${options.config ?? ""}\n[debug]\nlevel = "debug"\n`);
    options.before?.(databasePathIn(directory));
    const neighbours = new Neighbours(directory);
    for (const peer of ["events", "content", "snapshots"] as const) {
      await neighbours.start(peer);
    }
    const started = new MetadataProcess(directory, neighbours);
    context.after(() => started.close());
    await started.ready();
    return started;
  }

  get transport(): Transport {
    return this.#connection.transport;
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** The file of the database. */
  get databasePath(): string {
    return databasePathIn(this.directory);
  }

  client<S extends DescService>(service: S): Client<S> {
    return createClient(service, this.transport);
  }

  /** Tells the process which snapshotters are loaded, as the snapshots process does. */
  async loadSnapshotters(...names: string[]): Promise<void> {
    await this.client(SnapshotIndex).reconcileSnapshots({ snapshotters: names.map((name) => ({ name })) });
  }

  async ready(): Promise<void> {
    await this.client(Health).check({});
  }

  /** Ends the process at once. */
  async kill(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const exited = once(this.#child, "exit");
      this.#child.kill("SIGKILL");
      await exited;
    }
  }

  /** Asks the process to stop and waits for it. @returns its exit status. */
  async stop(): Promise<number | null> {
    const exited = once(this.#child, "exit");
    this.#child.kill("SIGTERM");
    const [status] = (await exited) as [number | null];
    return status;
  }

  /** Starts the process again after it ended, on the same files. */
  async restart(): Promise<void> {
    this.#connection.close();
    this.#connection = connectRpc(privateSocketOf(`${this.directory}/state`, "metadata"));
    this.#child = this.#spawn();
    await this.ready();
  }

  async close(): Promise<void> {
    await this.kill();
    this.#connection.close();
    await this.neighbours.close();
    await rm(this.directory, { recursive: true, force: true });
  }

  #spawn(): ChildProcess {
    const { directory } = this;
    const flags = [
      "--config",
      `${directory}/config.toml`,
      "--root",
      `${directory}/root`,
      "--state",
      `${directory}/state`,
    ];
    const child = spawn(process.execPath, [program, ...flags], {
      env: { ...process.env, ...compiledCode },
      stdio: ["ignore", "ignore", "pipe"],
    });
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.log += text;
    });
    return child;
  }
}

function databasePathIn(directory: string): string {
  return `${directory}/root/io.containerd.metadata.v1.bolt/meta.db`;
}

/** Options of a call in a namespace. */
export function inNamespace(namespace: string, lease = ""): { readonly headers: Record<string, string> } {
  return { headers: clientHeaders(namespace, lease) };
}
