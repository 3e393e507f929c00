import { rename, rm } from "node:fs/promises";
import { create } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import { readFileIfThere, replaceFile } from "#base/durable-file.ts";
import { ErrorKind, failure, wrapFailure } from "#base/errors.ts";
import { KeyedLock } from "#base/keyed-lock.ts";
import type { Mount } from "#gen/containerd/types/mount_pb.ts";
import { ContainerResourcesSchema, ContainerState, type LinuxContainerResources } from "#gen/runtime/v1/api_pb.ts";
import { formatExactJson, parseExactJson } from "../containers/spec/exact-json.ts";
import type { OciUser } from "../containers/spec/oci-spec.ts";
import type { ContainerIo } from "../logs/container-io.ts";
import type { ContainerMetadata } from "./container-record.ts";
import { fromGoJson, toGoJson } from "./go-message.ts";
import type { IdTable } from "./id-table.ts";

/** How far a container is, kept in a file of its own. Times are nanoseconds since 1970, 0 for what has not been. @source containerd v2.3.4 internal/cri/store/container/status.go `Status` */
export interface ContainerStatusRecord {
  readonly pid: number;
  readonly createdAtNs: bigint;
  readonly startedAtNs: bigint;
  readonly finishedAtNs: bigint;
  readonly exitCode: number;
  /** In one word why it is as it is; "" where that follows from the exit code. */
  readonly reason: string;
  readonly message: string;
  readonly resources: LinuxContainerResources | undefined;
  /** Whether it is started from a checkpoint. */
  readonly restore: boolean;
  /** Not kept: whether somebody is starting or removing it just now, and whether its state could not be found out. */
  readonly starting: boolean;
  readonly removing: boolean;
  readonly unknown: boolean;
}

/** @source containerd v2.3.4 internal/cri/store/container/status.go `statusVersion` */
const statusVersion = "v1";
const statusMode = 0o600;

/** The status of a container of which nothing is known. @source containerd v2.3.4 internal/cri/server/helpers.go `unknownContainerStatus` */
export const unknownStatus: ContainerStatusRecord = {
  pid: 0,
  createdAtNs: 0n,
  startedAtNs: 0n,
  finishedAtNs: 0n,
  exitCode: 255,
  reason: "Unknown",
  message: "",
  resources: undefined,
  restore: false,
  starting: false,
  removing: false,
  unknown: true,
};

export interface ContainerFacts {
  readonly metadata: ContainerMetadata;
  /** `<root>/…/containers/ID`, which survives a reboot. */
  readonly directory: string;
  /** `<state>/…/containers/ID`, which does not. */
  readonly stateDirectory: string;
  readonly runtime: { readonly name: string; readonly options: Any | undefined };
  readonly snapshotter: string;
  /** Who its process is, inside. */
  readonly user: OciUser | undefined;
  /** How its root file system is mounted; undefined where that is to be asked for. */
  readonly rootMounts: readonly Mount[] | undefined;
}

/** A container of a pod. */
export class Container {
  readonly id: string;
  readonly facts: ContainerFacts;
  /** Its pipes and log; undefined once it has ended. */
  io: ContainerIo | undefined;
  /** Whether a signal to end has been sent by somebody who waits for it to act. */
  isStopSignalled = false;
  readonly #ended = new AbortController();
  readonly #turns = new KeyedLock<"status">();
  #status: ContainerStatusRecord;
  /** What is on disk, as far as it was written here. */
  #kept: string | undefined;

  constructor(facts: ContainerFacts, status: ContainerStatusRecord) {
    this.id = facts.metadata.id;
    this.facts = facts;
    this.#status = status;
  }

  get metadata(): ContainerMetadata {
    return this.facts.metadata;
  }

  get status(): ContainerStatusRecord {
    return this.#status;
  }

  get state(): ContainerState {
    return stateOf(this.#status);
  }

  /** Aborts when the container has ended and its status says so. */
  get ended(): AbortSignal {
    return this.#ended.signal;
  }

  /** Tells whoever waits that the container has ended. */
  end(): void {
    this.#ended.abort();
  }

  /**
   * Changes the status: it is on disk before anybody sees it.
   *
   * @param change - Gets the status, and may throw to leave it as it is; one change at a time.
   * @throws {@link FlotillaError} when it can't be written; then it is as it was.
   */
  update(
    change: (status: ContainerStatusRecord) => ContainerStatusRecord | Promise<ContainerStatusRecord>,
  ): Promise<void> {
    return this.#turns.run(["status"], async () => {
      const next = await change(this.#status);
      await this.#keep(next);
      // What is not kept may have changed meanwhile.
      const { starting, removing } = this.#status;
      this.#status = { ...next, starting, removing };
    });
  }

  /**
   * Keeps a change on disk that is to be seen later, when {@link update} makes it: should this process be killed before, the next one sees it.
   *
   * @throws {@link FlotillaError} when it can't be written.
   */
  foretell(change: (status: ContainerStatusRecord) => ContainerStatusRecord): Promise<void> {
    return this.#turns.run(["status"], () => this.#keep(change(this.#status)));
  }

  /** Has a status on disk, which takes nothing where that is the one that was foretold. */
  async #keep(status: ContainerStatusRecord): Promise<void> {
    const text = formatStatus(status);
    if (text !== this.#kept) {
      this.#kept = undefined;
      await writeStatusText(this.facts.directory, text);
      this.#kept = text;
    }
  }

  /** Changes what is not kept of the status. @param change - May throw to leave it as it is. */
  mark(change: (status: ContainerStatusRecord) => Partial<Pick<ContainerStatusRecord, "starting" | "removing">>): void {
    this.#status = { ...this.#status, ...change(this.#status) };
  }
}

/** The containers of this machine. */
export type ContainerTable = IdTable<Container>;

/** @source containerd v2.3.4 internal/cri/store/container/status.go `State` */
export function stateOf(status: ContainerStatusRecord): ContainerState {
  if (status.unknown) {
    return ContainerState.CONTAINER_UNKNOWN;
  }
  if (status.finishedAtNs !== 0n) {
    return ContainerState.CONTAINER_EXITED;
  }
  if (status.startedAtNs !== 0n) {
    return ContainerState.CONTAINER_RUNNING;
  }
  return status.createdAtNs === 0n ? ContainerState.CONTAINER_UNKNOWN : ContainerState.CONTAINER_CREATED;
}

/** Writes the status of a container, as containerd does. */
export function writeStatus(directory: string, status: ContainerStatusRecord): Promise<void> {
  return writeStatusText(directory, formatStatus(status));
}

async function writeStatusText(directory: string, text: string): Promise<void> {
  const path = `${directory}/status`;
  try {
    await replaceFile(path, text, { mode: statusMode });
  } catch (error) {
    throw wrapFailure(error, `failed to checkpoint status to ${JSON.stringify(path)}`);
  }
}

function formatStatus(status: ContainerStatusRecord): string {
  const resources = create(ContainerResourcesSchema, status.resources === undefined ? {} : { linux: status.resources });
  return formatExactJson({
    Version: statusVersion,
    Pid: status.pid,
    CreatedAt: status.createdAtNs,
    StartedAt: status.startedAtNs,
    FinishedAt: status.finishedAtNs,
    ExitCode: status.exitCode,
    Reason: status.reason,
    Message: status.message,
    Resources: status.resources === undefined ? null : toGoJson(ContainerResourcesSchema, resources),
    Restore: status.restore,
  });
}

/**
 * Reads the status of a container.
 *
 * @throws {@link FlotillaError} `not_found` when there is none, `invalid_argument` when it is of another version.
 */
export async function readStatus(directory: string): Promise<ContainerStatusRecord> {
  const text = await readFileIfThere(`${directory}/status`);
  if (text === undefined) {
    throw failure(ErrorKind.NotFound, `failed to read status from ${JSON.stringify(`${directory}/status`)}`);
  }
  const written = parseExactJson(text) as Readonly<Record<string, unknown>>;
  if (written["Version"] !== statusVersion) {
    throw failure(ErrorKind.InvalidArgument, "unsupported version");
  }
  const number = (key: string): number => Number(written[key] ?? 0);
  const time = (key: string): bigint => {
    const value = written[key];
    return typeof value === "bigint" || typeof value === "number" ? BigInt(value) : 0n;
  };
  const word = (key: string): string => (typeof written[key] === "string" ? written[key] : "");
  const resources = written["Resources"] ?? undefined;
  return {
    pid: number("Pid"),
    createdAtNs: time("CreatedAt"),
    startedAtNs: time("StartedAt"),
    finishedAtNs: time("FinishedAt"),
    exitCode: number("ExitCode"),
    reason: word("Reason"),
    message: word("Message"),
    resources: resources === undefined ? undefined : fromGoJson(ContainerResourcesSchema, resources).linux,
    restore: written["Restore"] === true,
    starting: false,
    removing: false,
    unknown: false,
  };
}

/** Removes the status of a container, so that a start of the process no longer sees one. @source containerd v2.3.4 internal/cri/store/container/status.go `Delete` */
export async function removeStatus(directory: string): Promise<void> {
  const path = `${directory}/status`;
  await rename(path, `${directory}/.del-status`).catch(() => undefined);
  await rm(`${directory}/.del-status`, { force: true });
}
