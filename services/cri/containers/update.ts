import { create } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { ErrorKind, FlotillaError, isFailure, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { ContainerState, type LinuxContainerResources } from "#gen/runtime/v1/api_pb.ts";
import { criCall } from "../peers.ts";
import type { Container } from "../store/container.ts";
import type { ContainerParts } from "./container-parts.ts";
import { getRecord, replaceSpec, specOf } from "./container-record.ts";
import { formatExactJson } from "./spec/exact-json.ts";
import { applyResources, resourcesOf } from "./spec/resources.ts";

/** How containerd calls limits of version 1. @source containerd/typeurl v2; containerd v2.3.4 client/client.go `init` */
const resourcesTypeUrl = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";

/**
 * Changes the limits of a container: on its record, and at once where it runs. When they can't be changed there, the record says again what it said before.
 *
 * @throws {@link FlotillaError} in containerd's words.
 * @source containerd v2.3.4 internal/cri/server/container_update_resources.go `updateContainerResources`
 */
export async function updateResources(
  parts: ContainerParts,
  container: Container,
  wishes: LinuxContainerResources | undefined,
): Promise<void> {
  try {
    await container.update(async (status) => {
      if (status.removing || container.status.removing) {
        throw new FlotillaError(ErrorKind.Unknown, `container ${quote(container.id)} is in removing state`);
      }
      const machine = await parts.machine();
      const old = specOf(await getRecord(parts.peers, container.id));
      const linux = { ...old.linux, resources: applyResources(old.linux?.resources, wishes, machine) };
      const spec = { ...old, linux };
      await replaceSpec(parts.peers, container.id, spec);
      try {
        if (container.state === ContainerState.CONTAINER_RUNNING) {
          await updateTask(parts, container.id, linux.resources);
        }
      } catch (error) {
        await replaceSpec(parts.peers, container.id, old);
        throw error;
      }
      return { ...status, resources: resourcesOf(spec) };
    });
  } catch (error) {
    throw wrapFailure(error, "failed to update resources");
  }
}

/** A task that has ended meanwhile needs no limits. */
async function updateTask({ peers }: ContainerParts, id: string, limits: object): Promise<void> {
  const resources = create(AnySchema, {
    typeUrl: resourcesTypeUrl,
    value: new Uint8Array(Buffer.from(formatExactJson(limits))),
  });
  try {
    await peers.tasks.update({ containerId: id, resources }, criCall());
  } catch (error) {
    if (!isFailure(error, ErrorKind.NotFound)) {
      throw wrapFailure(error, "failed to update resources");
    }
  }
}
