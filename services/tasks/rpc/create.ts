import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { ErrorKind, FlotillaError, failure, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import type { NotedDeprecations } from "#fleet/noted-deprecations.ts";
import { OptionsSchema } from "#gen/containerd/runc/v1/options_pb.ts";
import type { CreateTaskRequest } from "#gen/containerd/services/tasks/v1/tasks_pb.ts";
import type { Blobs, ContainerRecord, Records } from "../domain/ports.ts";
import type { NewTask, TaskLifecycle } from "../lifecycle.ts";
import type { SandboxSupervisor } from "../runtimes/runtime.ts";
import { unpackArchive } from "./archive.ts";
import { unpackOptions } from "./options.ts";

/** Media type of a checkpoint. @source containerd v2.3.4 core/images/mediatypes.go `MediaTypeContainerd1Checkpoint` */
export const checkpointMediaType = "application/vnd.containerd.container.criu.checkpoint.criu.tar";

/** What creating a task takes. */
export interface CreateParts {
  readonly lifecycle: TaskLifecycle;
  readonly records: Records;
  readonly blobs: Blobs;
  /** Is told of fields in use that are going to be taken away. */
  readonly deprecations: Pick<NotedDeprecations, "note">;
}

/** @source containerd v2.3.4 pkg/deprecation/deprecation.go `RuncOptionsTaskAPIAddress`, `RuncOptionsTaskAPIVersion` */
const taskApiFields = {
  address: {
    id: "io.containerd.deprecation/runc-options-task-api-address",
    message:
      "The `task_api_address` field in runc options is deprecated since containerd v2.3. Set `task_api_address` on CreateTaskRequest instead.",
  },
  version: {
    id: "io.containerd.deprecation/runc-options-task-api-version",
    message:
      "The `task_api_version` field in runc options is deprecated since containerd v2.3. Set `task_api_version` on CreateTaskRequest instead.",
  },
} as const;

/** Which task to create. */
export interface WantedTask extends Pick<NewTask, "namespace" | "signal" | "onMade"> {
  readonly request: CreateTaskRequest;
}

/**
 * Creates a task for a container on record.
 *
 * @returns Process id of its first process.
 * @source containerd v2.3.4 plugins/services/tasks/local.go `Create`
 */
export async function createTask(
  { lifecycle, records, blobs, deprecations }: CreateParts,
  { namespace, request, signal, onMade }: WantedTask,
): Promise<number> {
  const container = await records.getContainer(namespace, request.containerId);
  const options =
    request.options === undefined
      ? undefined
      : await unpackOptions(OptionsSchema, request.options, `invalid task create option for ${container.runtime}`);
  if (request.taskApiAddress === "" && (options?.taskApiAddress ?? "") !== "") {
    deprecations.note(taskApiFields.address);
  }
  if (request.taskApiVersion === 0 && (options?.taskApiVersion ?? 0) !== 0) {
    deprecations.note(taskApiFields.version);
  }
  const checkpoint = await openCheckpoint(blobs, namespace, request, options?.criuImagePath ?? "");
  try {
    const { rootfs, stdin, stdout, stderr, terminal } = request;
    return await lifecycle.create({
      namespace,
      id: request.containerId,
      spec: container.spec,
      runtime: request.runtimePath || container.runtime,
      options:
        request.options !== undefined && request.options.value.length > 0 ? request.options : container.runtimeOptions,
      request: { rootfs, stdin, stdout, stderr, terminal, checkpoint: checkpoint.path },
      sandbox: await findSandbox(records, namespace, container, {
        address: request.taskApiAddress || (options?.taskApiAddress ?? ""),
        version: request.taskApiVersion || (options?.taskApiVersion ?? 0),
      }),
      sandboxed: container.sandbox !== "",
      signal,
      onMade,
    });
  } finally {
    await checkpoint[Symbol.asyncDispose]();
  }
}

/** The sandbox of a container; undefined when it has none, or one from before sandboxes had records. */
async function findSandbox(
  records: Records,
  namespace: string,
  { sandbox }: ContainerRecord,
  endpoint: Omit<SandboxSupervisor, "sandboxId">,
): Promise<SandboxSupervisor | undefined> {
  if (sandbox === "") {
    return undefined;
  }
  const sandboxer = await records.findSandboxer(namespace, sandbox).catch((error: unknown) => {
    throw wrapFailure(error, "failed to start shim");
  });
  return sandboxer !== undefined ? { sandboxId: sandbox, ...endpoint } : undefined;
}

interface Checkpoint extends AsyncDisposable {
  /** Directory of the checkpoint, or "". */
  readonly path: string;
}

async function openCheckpoint(
  blobs: Blobs,
  namespace: string,
  { checkpoint }: CreateTaskRequest,
  imagePath: string,
): Promise<Checkpoint> {
  if (checkpoint !== undefined && "RestoreFromPath" in checkpoint.annotations) {
    throw failure(ErrorKind.NotImplemented, "restoring from a path");
  }
  if (checkpoint === undefined || imagePath !== "") {
    return { path: imagePath, [Symbol.asyncDispose]: () => Promise.resolve() };
  }
  if (checkpoint.mediaType !== checkpointMediaType) {
    throw new FlotillaError(ErrorKind.Unknown, `unsupported checkpoint type ${quote(checkpoint.mediaType)}`);
  }
  const blob = await blobs.locate(namespace, checkpoint.digest);
  const path = await makeCheckpointDirectory();
  const remove = (): Promise<void> => rm(path, { recursive: true, force: true });
  try {
    await unpackArchive(blob, path);
  } catch (error) {
    await remove();
    throw error;
  }
  return { path, [Symbol.asyncDispose]: remove };
}

/** Makes a temporary directory for a checkpoint, which the caller removes. */
export function makeCheckpointDirectory(): Promise<string> {
  return mkdtemp(`${process.env["XDG_RUNTIME_DIR"] || tmpdir()}/ctrd-checkpoint`);
}
