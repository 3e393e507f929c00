import { create, toBinary } from "@bufbuild/protobuf";
import { type ContainerFilter, ContainerSchema } from "#gen/runtime/v1/api_pb.ts";
import type { Container, ContainerTable } from "../store/container.ts";
import { ListedForms } from "../store/listed-forms.ts";
import type { PodTable } from "../store/pod.ts";

/** The tables that are looked into. */
export interface Tables {
  readonly containers: ContainerTable;
  readonly pods: PodTable;
}

/** What a list may be narrowed to. */
export type ListFilter = Pick<ContainerFilter, "id" | "podSandboxId" | "labelSelector"> &
  Partial<Pick<ContainerFilter, "state">>;

/**
 * The containers that a filter fits; ids of it may be cut short.
 *
 * @source containerd v2.3.4 internal/cri/server/container_list.go `filterCRIContainers`
 */
export function selectContainers({ containers, pods }: Tables, filter: ListFilter | undefined): Container[] {
  if (filter === undefined) {
    return containers.all();
  }
  const id = wholeId(containers, filter.id);
  const podId = wholeId(pods, filter.podSandboxId);
  const wanted = Object.entries(filter.labelSelector);
  return containers
    .all()
    .filter(
      (container) =>
        (id === "" || id === container.id) &&
        (podId === "" || podId === container.metadata.podId) &&
        (filter.state === undefined || filter.state.state === container.state) &&
        wanted.every(([key, value]) => container.metadata.config.labels[key] === value),
    );
}

function wholeId(table: { find(id: string): { readonly id: string } | undefined }, id: string): string {
  try {
    return table.find(id)?.id ?? id;
  } catch {
    // What may mean several means none of them.
    return id;
  }
}

/** Containers as lists show them. @source containerd v2.3.4 internal/cri/server/container_list.go `toCRIContainer` */
export const listedContainers = new ListedForms(encodeContainer, ({ state }) => state);

function encodeContainer({ id, metadata, status, state }: Container): Uint8Array {
  const { config, podId, imageRef } = metadata;
  return toBinary(
    ContainerSchema,
    create(ContainerSchema, {
      id,
      podSandboxId: podId,
      ...(config.metadata === undefined ? {} : { metadata: config.metadata }),
      ...(config.image === undefined ? {} : { image: config.image }),
      imageRef,
      imageId: imageRef,
      state,
      createdAt: status.createdAtNs,
      labels: config.labels,
      annotations: config.annotations,
    }),
  );
}
