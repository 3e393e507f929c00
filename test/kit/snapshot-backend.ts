import { mkdirSync, rmSync } from "node:fs";
import { ErrorKind, failure } from "#base/errors.ts";
import { type Info, Kind, Snapshots } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import { bindService, type Call, type Handlers } from "#wire/handler.ts";
import { namespaceHeader } from "#wire/headers.ts";
import { type RpcServer, serveRpc } from "#wire/server.ts";

interface Kept {
  readonly id: number;
  readonly kind: Kind;
  readonly parent: string;
  readonly labels: Record<string, string>;
}

interface MountShown {
  type: string;
  source: string;
  target: string;
  options: string[];
}

/**
 * A snapshotter of somebody else: directories without layers below them, names of any kind, and, for references that it is told of, committed
 * snapshots that it makes by itself, as one does that mounts layers from a registry.
 */
export class SnapshotBackend implements AsyncDisposable {
  /** What it keeps, by name. */
  readonly kept = new Map<string, Kept>();
  /** References that it has elsewhere. */
  readonly remote = new Set<string>();
  /** Methods in the order in which they were called, with the namespace. */
  readonly calls: string[] = [];
  /** While this is set, nothing is answered. */
  isWedged = false;
  readonly #directory: string;
  readonly #released = new AbortController();
  #server: RpcServer | undefined;
  #lastId = 0;

  private constructor(directory: string) {
    this.#directory = directory;
  }

  static async serve(socketPath: string, directory: string): Promise<SnapshotBackend> {
    const backend = new SnapshotBackend(directory);
    backend.#server = await serveRpc({
      socketPath,
      services: [bindService(Snapshots, backend.#handlers())],
      observer: {},
    });
    return backend;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#released.abort();
    await this.#server?.close(0);
  }

  #handlers(): Partial<Handlers<typeof Snapshots>> {
    return {
      prepare: (request, call) => this.#answer("prepare", call, () => this.#make(request, Kind.ACTIVE)),
      view: (request, call) => this.#answer("view", call, () => this.#make(request, Kind.VIEW)),
      mounts: ({ key }, call) => this.#answer("mounts", call, () => ({ mounts: [this.#mount(this.#get(key), "rw")] })),
      commit: ({ name, key, labels, parent }, call) =>
        this.#answer("commit", call, () => {
          const active = this.#get(key);
          if (this.kept.has(name)) {
            throw failure(ErrorKind.AlreadyExists, name);
          }
          this.kept.delete(key);
          this.kept.set(name, { ...active, kind: Kind.COMMITTED, labels, parent: parent || active.parent });
          return {};
        }),
      remove: ({ key }, call) =>
        this.#answer("remove", call, () => {
          this.#get(key);
          if ([...this.kept.values()].some(({ parent }) => parent === key)) {
            throw failure(ErrorKind.FailedPrecondition, "cannot remove snapshot with child");
          }
          rmSync(this.#path(this.#get(key)), { recursive: true, force: true });
          this.kept.delete(key);
          return {};
        }),
      stat: ({ key }, call) => this.#answer("stat", call, () => ({ info: this.#show(key, this.#get(key)) })),
      usage: ({ key }, call) =>
        this.#answer("usage", call, () => {
          this.#get(key);
          return { size: 12_345n, inodes: 6n };
        }),
      update: ({ info }, call) =>
        this.#answer("update", call, () => {
          const name = info?.name ?? "";
          this.kept.set(name, { ...this.#get(name), labels: info?.labels ?? {} });
          return { info: this.#show(name, this.#get(name)) };
        }),
      list: async function* (this: SnapshotBackend, _request: unknown, call: Call) {
        yield await this.#answer("list", call, () => ({
          info: [...this.kept].map(([name, kept]) => this.#show(name, kept)),
        }));
      }.bind(this),
      cleanup: (_request, call) => this.#answer("cleanup", call, () => ({})),
    };
  }

  async #answer<T>(method: string, call: Call, act: () => T): Promise<T> {
    this.calls.push(`${method} ${call.header(namespaceHeader) ?? ""}`);
    if (this.isWedged) {
      await new Promise((_resolve, reject) => {
        for (const signal of [call.signal, this.#released.signal]) {
          signal.addEventListener("abort", () => reject(failure(ErrorKind.Canceled, "wedged")), { once: true });
        }
      });
    }
    return act();
  }

  #make(
    { key, parent, labels }: { key: string; parent: string; labels: Record<string, string> },
    kind: Kind,
  ): { mounts: MountShown[] } {
    const target = labels["containerd.io/snapshot.ref"] ?? "";
    if (this.kept.has(key)) {
      throw failure(ErrorKind.AlreadyExists, key);
    }
    if (parent !== "" && this.#get(parent).kind !== Kind.COMMITTED) {
      throw failure(ErrorKind.InvalidArgument, `parent ${parent} is not committed`);
    }
    this.#lastId += 1;
    const made = { id: this.#lastId, kind, parent, labels };
    if (this.remote.has(target)) {
      if (!this.kept.has(target)) {
        this.kept.set(target, { ...made, kind: Kind.COMMITTED, labels: { ...labels, "example.io/remote": "yes" } });
      }
      throw failure(ErrorKind.AlreadyExists, `target snapshot "${target}"`);
    }
    mkdirSync(this.#path(made), { recursive: true });
    this.kept.set(key, made);
    return { mounts: [this.#mount(made, kind === Kind.VIEW ? "ro" : "rw")] };
  }

  #path({ id }: Kept): string {
    return `${this.#directory}/${id}`;
  }

  #mount(kept: Kept, mode: string): MountShown {
    return { type: "bind", source: this.#path(kept), target: "", options: [mode, "rbind"] };
  }

  #get(name: string): Kept {
    const kept = this.kept.get(name);
    if (kept === undefined) {
      throw failure(ErrorKind.NotFound, `snapshot ${name} does not exist`);
    }
    return kept;
  }

  #show(name: string, { kind, parent, labels }: Kept): Pick<Info, "name" | "kind" | "parent" | "labels"> {
    return { name, kind, parent, labels };
  }
}
