import { readdir, rm } from "node:fs/promises";
import { ErrorKind, isFailure, systemErrorCode } from "#base/errors.ts";
import { nsPerSecond, wallClock } from "#base/times.ts";
import type { Container as RecordedContainer } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import { type Process, Status } from "#gen/containerd/v1/types/task_pb.ts";
import { ContainerState } from "#gen/runtime/v1/api_pb.ts";
import { unmountRecursive } from "#linux/unmount.ts";
import { openContainerIo, recoverContainerIo } from "../logs/container-io.ts";
import { criCall } from "../peers.ts";
import {
  Container,
  type ContainerStatusRecord,
  readStatus,
  stateOf,
  unknownStatus,
  writeStatus,
} from "../store/container.ts";
import { containerMetadataExtension, decodeContainerMetadata } from "../store/container-record.ts";
import { kindLabel } from "../store/record-labels.ts";
import type { ContainerParts } from "./container-parts.ts";
import { specOf } from "./container-record.ts";
import { removeTask } from "./remove-task.ts";

/** How many containers are taken in at a time. */
const parallelMax = 16;
/** How long one of them may take, in milliseconds. @source containerd v2.3.4 internal/cri/server/restart.go `loadContainerTimeout` */
const loadMsMax = 10_000;

/**
 * Takes in the containers that were there before this process: their records, their status, and what the machine says of them now. What can't be found out of one is told of in
 * the log, and the container is there in unknown state. Files of containers that have no record are removed.
 *
 * @source containerd v2.3.4 internal/cri/server/restart.go `recover`, `loadContainer`
 */
export async function recoverContainers(parts: ContainerParts): Promise<void> {
  const { peers, log, settings } = parts;
  const { containers } = await peers.containers.list({ filters: [`labels."${kindLabel}"==container`] }, criCall());
  const work = containers.values();
  const takeIn = async (): Promise<void> => {
    for (const record of work) {
      try {
        await load(parts, record);
      } catch (error) {
        log.error({ container: record.id, err: error }, "a container is not taken in");
      }
    }
  };
  await Promise.all(Array.from({ length: parallelMax }, takeIn));
  const known = new Set(containers.map(({ id }) => id));
  for (const base of [settings.rootDirectory, settings.stateDirectory]) {
    await removeOrphans(parts, `${base}/containers`, known);
  }
}

async function load(parts: ContainerParts, record: RecordedContainer): Promise<void> {
  const { settings, containers, names, exits, selinux, log } = parts;
  const extension = record.extensions[containerMetadataExtension];
  if (extension === undefined) {
    throw new Error(`metadata extension "${containerMetadataExtension}" not found`);
  }
  const { id } = record;
  const metadata = decodeContainerMetadata(extension);
  const directory = `${settings.rootDirectory}/containers/${id}`;
  const stateDirectory = `${settings.stateDirectory}/containers/${id}`;
  const facts: Container["facts"] = {
    metadata,
    directory,
    stateDirectory,
    runtime: { name: record.runtime?.name ?? "", options: record.runtime?.options },
    snapshotter: record.snapshotter,
    user: specOf(record).process?.user,
    rootMounts: undefined,
  };
  const written = await readStatus(directory).catch((error: unknown) => {
    log.warn({ container: id, err: error }, "the status of a container is not there");
    return unknownStatus;
  });
  let container: Container;
  try {
    const { status, io, isRunning } = await compare(parts, facts, written);
    if (status !== written) {
      await writeStatus(directory, status);
    }
    container = new Container(facts, status);
    container.io = io;
    if (container.state === ContainerState.CONTAINER_EXITED && !isRunning) {
      container.end();
    }
    if (isRunning) {
      void exits.watch(container);
    }
  } catch (error) {
    log.error({ container: id, err: error }, "the state of a container is not known");
    container = new Container(facts, { ...written, unknown: true });
  }
  containers.add(container);
  names.reserve(metadata.name, id);
  selinux.reserve(metadata.processLabel);
}

interface Found {
  readonly status: ContainerStatusRecord;
  readonly io: Container["io"];
  readonly isRunning: boolean;
}

/** Compares what was written with what there is. */
async function compare(
  parts: ContainerParts,
  facts: Container["facts"],
  written: ContainerStatusRecord,
): Promise<Found> {
  const { id } = facts.metadata;
  const task = await findTask(parts, id);
  const state = stateOf(written);
  switch (task?.status) {
    case undefined:
      return state === ContainerState.CONTAINER_CREATED
        ? { status: written, io: await newIo(parts, facts), isRunning: false }
        : {
            status: state === ContainerState.CONTAINER_RUNNING ? lost(written) : written,
            io: undefined,
            isRunning: false,
          };
    case Status.CREATED:
      // Somebody was about to start it when the process ended: that has to be asked for again.
      await removeTask(parts, id);
      if (state !== ContainerState.CONTAINER_CREATED) {
        throw new Error("the task is created, and the container is not");
      }
      return { status: written, io: await newIo(parts, facts), isRunning: false };
    case Status.STOPPED: {
      // How it ended may be written already, with its task still to be deleted.
      const status = state === ContainerState.CONTAINER_EXITED ? written : started(written, task);
      return { status, io: oldIo(parts, facts, task), isRunning: true };
    }
    case Status.RUNNING:
    case Status.PAUSED:
    case Status.PAUSING:
      if (state === ContainerState.CONTAINER_EXITED) {
        throw new Error("the task runs, and the container has ended");
      }
      return { status: started(written, task), io: oldIo(parts, facts, task), isRunning: true };
    default:
      throw new Error(`unexpected task status ${task?.status}`);
  }
}

/** The status of a container whose task runs, or has run until just now. */
function started(status: ContainerStatusRecord, task: Process): ContainerStatusRecord {
  return stateOf(status) === ContainerState.CONTAINER_RUNNING
    ? status
    : {
        ...status,
        unknown: false,
        pid: task.pid,
        startedAtNs: wallClock(),
        createdAtNs: status.createdAtNs || startOf(task),
      };
}

function startOf({ exitedAt }: Process): bigint {
  return exitedAt === undefined || exitedAt.seconds <= 0n ? wallClock() : exitedAt.seconds * nsPerSecond;
}

/** The status of a container that ran, and of which nothing is left. */
function lost(status: ContainerStatusRecord): ContainerStatusRecord {
  return { ...status, pid: 0, finishedAtNs: wallClock(), exitCode: 255, reason: "Unknown" };
}

async function findTask({ peers }: ContainerParts, id: string): Promise<Process | undefined> {
  try {
    return (await peers.tasks.get({ containerId: id }, criCall({ timeoutMs: loadMsMax }))).process;
  } catch (error) {
    if (isFailure(error, ErrorKind.NotFound)) {
      return undefined;
    }
    throw error;
  }
}

function newIo({ log }: ContainerParts, { metadata, stateDirectory }: Container["facts"]) {
  return openContainerIo({
    id: metadata.id,
    stateDirectory,
    tty: metadata.config.tty,
    stdin: metadata.config.stdin,
    onLogFailure: (error) => log.warn({ container: metadata.id, err: error }, "entries of a log are lost"),
  });
}

function oldIo(
  { log, settings }: ContainerParts,
  { metadata }: Container["facts"],
  { stdin, stdout, stderr, terminal }: Process,
): Container["io"] {
  const { id, logPath } = metadata;
  try {
    const io = recoverContainerIo(
      { stdin, stdout, stderr, terminal },
      { onLogFailure: (error) => log.warn({ container: id, err: error }, "entries of a log are lost") },
    );
    io.startLog(logPath, settings.containerLogLineBytesMax);
    return io;
  } catch (error) {
    log.warn({ container: id, err: error }, "the output of a container is lost");
    return undefined;
  }
}

async function removeOrphans({ log }: ContainerParts, directory: string, known: ReadonlySet<string>): Promise<void> {
  let names: string[];
  try {
    names = await readdir(directory);
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") {
      return;
    }
    throw error;
  }
  for (const name of names.filter((name) => !known.has(name))) {
    const path = `${directory}/${name}`;
    try {
      await unmountRecursive(path, { detach: true });
      await rm(path, { recursive: true, force: true });
    } catch (error) {
      log.warn({ path, err: error }, "files of a container that is gone stay");
    }
  }
}
