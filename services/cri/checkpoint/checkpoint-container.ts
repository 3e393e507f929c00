import { randomBytes } from "node:crypto";
import { copyFile, mkdir, rm, writeFile } from "node:fs/promises";
import { create, toBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { ErrorKind, FlotillaError, systemErrorCode, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { formatRfc3339, timestampNow } from "#base/times.ts";
import { CheckpointOptionsSchema } from "#gen/containerd/runc/v1/options_pb.ts";
import type { Container as ContainerRecord } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import type { Descriptor } from "#gen/containerd/types/descriptor_pb.ts";
import { Status } from "#gen/containerd/v1/types/task_pb.ts";
import { ContainerState, ContainerStatusSchema } from "#gen/runtime/v1/api_pb.ts";
import type { ContainerParts } from "../containers/container-parts.ts";
import { enumName } from "../containers/spec/enum-name.ts";
import { formatExactJson } from "../containers/spec/exact-json.ts";
import { containerStatus } from "../containers/status.ts";
import { withLease } from "../images/image-lease.ts";
import { type CriPeers, criCall } from "../peers.ts";
import type { Container } from "../store/container.ts";
import { toGoJson } from "../store/go-message.ts";
import { packFiles, unpackFiles, writeBlob } from "./checkpoint-files.ts";

/** How long the memory of a container may take to be written, in milliseconds. */
const checkpointMsMax = 10 * 60_000;
const fileMode = 0o600;
const directoryMode = 0o700;
const runcType = "io.containerd.runc.v2";
/** @source containerd v2.3.4 core/images/mediatypes.go `MediaTypeContainerd1Checkpoint` */
const checkpointMediaType = "application/vnd.containerd.container.criu.checkpoint.criu.tar";

/** Names in an archive. @source checkpoint-restore/checkpointctl lib/metadata.go */
const names = {
  config: "config.dump",
  spec: "spec.dump",
  status: "status.dump",
  ownStatus: "status",
  images: "checkpoint",
  rootDiff: "rootfs-diff.tar",
  log: "container.log",
} as const;

/** What is to be written down, and where. */
export interface CheckpointOrder {
  readonly id: string;
  /** Path of the archive. */
  readonly location: string;
  readonly signal: AbortSignal;
}

/**
 * Writes a running container down, which goes on afterwards: its processes as CRIU has dumped them, what it has changed of its root file system, its log,
 * its specification and its status, in an archive that `checkpointctl` reads. It stands still meanwhile. What fails leaves nothing but perhaps a part of
 * the archive.
 *
 * @returns The name of its runtime.
 * @throws {@link FlotillaError} in containerd's words.
 * @source containerd v2.3.4 internal/cri/server/container_checkpoint_linux.go `CheckpointContainer`; client/task.go `Checkpoint`
 */
export async function checkpointContainer(
  parts: ContainerParts,
  { id, location, signal }: CheckpointOrder,
): Promise<string> {
  const container = findRunning(parts, id);
  const record = await recordOf(parts.peers, container.id, signal);
  const runtime = record.runtime?.name ?? "";
  const directory = `${container.facts.directory}/ctrd-checkpoint`;
  await rm(directory, { recursive: true, force: true });
  await mkdir(directory, { mode: directoryMode });
  try {
    await withLease(parts.peers, signal, async (lease) => {
      const dumped = await dump(parts.peers, { record, directory, lease, signal }).catch((error: unknown) => {
        throw wrapFailure(error, `checkpointing container ${quote(container.id)} failed`);
      });
      await writeDocuments(parts, container, { record, directory });
      await unpackImages(parts.peers, dumped.images, { directory, signal });
      await writeBlob(parts.peers, dumped.rootDiff.digest, `${directory}/${names.rootDiff}`, signal).catch(
        (error: unknown) => {
          throw wrapFailure(error, "failed to copy rw filesystem layer blob to checkpoint dir");
        },
      );
    });
    await packFiles(directory, location, signal);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
  return runtime;
}

function findRunning({ containers }: ContainerParts, id: string): Container {
  let container: Container;
  try {
    container = containers.get(id);
  } catch (error) {
    throw wrapFailure(
      wrapFailure(error, `an error occurred when try to find container ${quote(id)}`),
      `an error occurred when trying to find container the container status ${quote(id)}`,
    );
  }
  if (container.state !== ContainerState.CONTAINER_RUNNING) {
    throw new FlotillaError(
      ErrorKind.Unknown,
      `container ${quote(container.id)} is in ${enumName(ContainerState, container.state)} state. only CONTAINER_RUNNING containers can be checkpointed`,
    );
  }
  return container;
}

async function recordOf({ containers }: CriPeers, id: string, signal: AbortSignal): Promise<ContainerRecord> {
  try {
    const { container } = await containers.get({ id }, criCall({ signal }));
    if (container !== undefined) {
      return container;
    }
  } catch (error) {
    throw wrapFailure(error, "get container info");
  }
  throw new FlotillaError(ErrorKind.Unknown, `get container info: container ${quote(id)} has no record`);
}

interface Dumping {
  readonly record: ContainerRecord;
  /** Where CRIU works, and leaves its log and figures. */
  readonly directory: string;
  readonly lease: string;
  readonly signal: AbortSignal;
}

/** Blobs of a checkpoint, which the lease holds. */
interface Dumped {
  /** Undefined where the runtime has written none. */
  readonly images: Descriptor | undefined;
  readonly rootDiff: Pick<Descriptor, "digest">;
}

/** Has everything written to blobs while the container stands still. */
async function dump(peers: CriPeers, dumping: Dumping): Promise<Dumped> {
  const { record, directory, lease, signal } = dumping;
  const call = criCall({ lease, signal, timeoutMs: checkpointMsMax });
  const containerId = record.id;
  const { process: state } = await peers.tasks.get({ containerId }, criCall({ signal }));
  if (state?.status !== Status.PAUSED) {
    await peers.tasks.pause({ containerId }, criCall({ signal }));
  }
  try {
    const options =
      record.runtime?.name === runcType
        ? create(AnySchema, {
            typeUrl: CheckpointOptionsSchema.typeName,
            value: toBinary(CheckpointOptionsSchema, create(CheckpointOptionsSchema, { workPath: directory })),
          })
        : undefined;
    const { descriptors } = await peers.tasks.checkpoint(
      { containerId, ...(options === undefined ? {} : { options }) },
      call,
    );
    const images = descriptors.find(({ mediaType }) => mediaType === checkpointMediaType);
    return { images, rootDiff: await diffRoot(peers, dumping) };
  } finally {
    if (state?.status !== Status.PAUSED) {
      await peers.tasks.resume({ containerId }, criCall());
    }
  }
}

/** What a container has changed of its root file system, as a layer. @source containerd v2.3.4 pkg/rootfs/diff.go `CreateDiff` */
async function diffRoot(peers: CriPeers, { record, lease, signal }: Dumping): Promise<Pick<Descriptor, "digest">> {
  const { snapshotter, snapshotKey: key } = record;
  const call = criCall({ lease, signal, timeoutMs: checkpointMsMax });
  const { info } = await peers.snapshotRecords.stat({ snapshotter, key }, criCall({ signal }));
  const parent = info?.parent ?? "";
  const view = `${parent}-parent-view-${randomBytes(6).toString("hex")}`;
  const { mounts: left } = await peers.snapshots.view({ snapshotter, key: view, parent }, call);
  try {
    const { mounts: right } = await peers.snapshots.mounts({ snapshotter, key }, call);
    const { diff } = await peers.diff.diff({ left, right, ref: `checkpoint-rw-${record.id}` }, call);
    if (diff === undefined) {
      throw new FlotillaError(ErrorKind.Unknown, "no difference of the root file system was made");
    }
    return diff;
  } finally {
    await peers.snapshots.remove({ snapshotter, key: view }, criCall()).catch(() => undefined);
  }
}

/** What is told of the container besides what it consists of. */
async function writeDocuments(
  parts: ContainerParts,
  container: Container,
  { record, directory }: Pick<Dumping, "record" | "directory">,
): Promise<void> {
  const status = containerStatus(container, parts.images.store);
  const image = status.image?.image ?? "";
  const config = {
    id: container.id,
    name: container.metadata.name,
    ...(image === "" ? {} : { rootfsImage: image, rootfsImageName: image }),
    ...(status.imageRef === "" ? {} : { rootfsImageRef: status.imageRef }),
    runtime: record.runtime?.name,
    createdTime: formatRfc3339(record.createdAt ?? timestampNow()),
    checkpointedTime: formatRfc3339(timestampNow()),
    restoredTime: "0001-01-01T00:00:00Z",
    restored: false,
  };
  const write = (name: string, data: string | Uint8Array): Promise<void> =>
    writeFile(`${directory}/${name}`, data, { mode: fileMode });
  await write(names.config, JSON.stringify(config));
  await write(names.status, formatExactJson(toGoJson(ContainerStatusSchema, status)));
  await write(names.spec, record.spec?.value ?? new Uint8Array());
  await copyFile(`${container.facts.directory}/status`, `${directory}/${names.ownStatus}`);
  if (status.logPath !== "") {
    await copyFile(status.logPath, `${directory}/${names.log}`).catch((error: unknown) => {
      if (systemErrorCode(error) !== "ENOENT") {
        throw error;
      }
    });
  }
}

async function unpackImages(
  peers: CriPeers,
  images: Descriptor | undefined,
  { directory, signal }: Pick<Dumping, "directory" | "signal">,
): Promise<void> {
  if (images === undefined) {
    return;
  }
  const target = `${directory}/${names.images}`;
  await mkdir(target, { mode: directoryMode });
  try {
    await unpackFiles(peers, images.digest, target, signal);
  } catch (error) {
    throw wrapFailure(error, "failed to copy CRIU checkpoint blob to checkpoint dir");
  }
}
