import { create } from "@bufbuild/protobuf";
import { quote } from "#base/quote.ts";
import type { Container } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import { type CreateTaskRequest, CreateTaskRequestSchema } from "#gen/containerd/services/tasks/v1/tasks_pb.ts";
import type { Mount } from "#gen/containerd/types/mount_pb.ts";
import { restartLabels } from "./restart-policy.ts";

/**
 * What a client would ask for to start a container again: its root file system with the label that its specification gives mounts, and its output
 * where the labels say, or nowhere. A terminal comes with output only.
 *
 * @source containerd v2.3.4 plugins/restart/change.go, client/container.go `handleMounts`
 */
export function restartRequest({ id, labels, spec }: Container, mounts: readonly Mount[]): CreateTaskRequest {
  const { process, linux } = JSON.parse(Buffer.from(spec?.value ?? []).toString("utf8") || "{}") as {
    process?: { terminal?: boolean };
    linux?: { mountLabel?: string };
  };
  const label = linux?.mountLabel ?? "";
  const output = labels[restartLabels.logUri] ?? "";
  return create(CreateTaskRequestSchema, {
    containerId: id,
    rootfs: mounts.map((mount) =>
      label === "" ? mount : { ...mount, options: [...mount.options, `context=${quote(label)}`] },
    ),
    terminal: output !== "" && process?.terminal === true,
    stdout: output,
    stderr: output,
  });
}
