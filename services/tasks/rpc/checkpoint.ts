import { rm } from "node:fs/promises";
import { type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { CheckpointOptionsSchema } from "#gen/containerd/runc/v1/options_pb.ts";
import type { CheckpointTaskRequest } from "#gen/containerd/services/tasks/v1/tasks_pb.ts";
import { Task as TaskService } from "#gen/containerd/task/v3/shim_pb.ts";
import type { DescriptorSchema } from "#gen/containerd/types/descriptor_pb.ts";
import type { Blobs, ContainerRecord } from "../domain/ports.ts";
import type { Task } from "../lifecycle.ts";
import { packDirectory } from "./archive.ts";
import { checkpointMediaType, makeCheckpointDirectory } from "./create.ts";
import { unpackOptions } from "./options.ts";

/** @source containerd v2.3.4 core/images/mediatypes.go `MediaTypeContainerd1CheckpointConfig` */
const configMediaType = "application/vnd.containerd.container.checkpoint.config.v1+proto";

/** What is asked for. */
export interface CheckpointCall {
  readonly container: ContainerRecord;
  readonly request: CheckpointTaskRequest;
  /** The lease that shall hold the checkpoint, or "". */
  readonly lease: string;
}

/**
 * Writes the state of a task's processes down.
 *
 * @returns Descriptors of the blobs that hold it with the container's specification; none when the options name a directory,
 *   where it is then.
 * @source containerd v2.3.4 plugins/services/tasks/local.go `Checkpoint`
 */
export async function checkpointTask(
  blobs: Blobs,
  task: Task,
  { container, request, lease }: CheckpointCall,
): Promise<MessageInitShape<typeof DescriptorSchema>[]> {
  const { options } = request;
  const imagePath =
    options === undefined
      ? ""
      : (
          await unpackOptions(
            CheckpointOptionsSchema,
            options,
            `invalid task checkpoint option for ${container.runtime}`,
          )
        ).imagePath;
  const checkpoint = (path: string) =>
    task.supervisor.call(TaskService.method.checkpoint, {
      id: task.id,
      path,
      ...(options === undefined ? {} : { options }),
    });
  if (imagePath !== "") {
    await checkpoint(imagePath);
    return [];
  }
  const owner = { namespace: task.namespace, lease };
  const directory = await makeCheckpointDirectory();
  try {
    await checkpoint(directory);
    const image = await blobs.store(owner, directory, packDirectory(directory));
    const spec = container.spec === undefined ? new Uint8Array() : toBinary(AnySchema, container.spec);
    const config = await blobs.store(owner, `${directory}/spec`, once(spec));
    return [
      { mediaType: checkpointMediaType, digest: image.digest, size: image.sizeBytes },
      { mediaType: configMediaType, digest: config.digest, size: config.sizeBytes },
    ];
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

// oxlint-disable-next-line typescript/require-await -- a stream of one piece has nothing to wait for
async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
