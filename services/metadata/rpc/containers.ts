import { create } from "@bufbuild/protobuf";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { ContainerSchema, Containers } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import { bindService, type Handlers, type ServiceBinding } from "#wire/handler.ts";
import { requireNamespace } from "#wire/headers.ts";
import type { ContainerStore } from "../store/containers.ts";
import { encodedResponse } from "./encoded.ts";
import { compileListFilters, listResponse } from "./filtered.ts";
import { mapEntry, recordFields, unlessEmpty } from "./record-fields.ts";

/** Answers the Containers service. @source containerd v2.3.4 plugins/services/containers/local.go */
export function containersService(containers: ContainerStore): ServiceBinding {
  return bindService(Containers, {
    get: ({ id }, call) => encodedResponse([containers.get(requireNamespace(call), id)]),
    list: ({ filters }, call) => listResponse(containers.table, requireNamespace(call), filters, containerFields),
    async *listStream({ filters }, call) {
      const namespace = requireNamespace(call);
      const filter = compileListFilters(filters);
      for (const record of containers.table.list(namespace)) {
        if (filter === undefined || filter(containerFields(record))) {
          yield encodedResponse([record]);
        }
      }
    },
    create: async ({ container }, call) =>
      encodedResponse([await containers.create(requireNamespace(call), container ?? create(ContainerSchema))]),
    update: async ({ container, updateMask }, call) => {
      if (container === undefined || container.id === "") {
        throw new FlotillaError(ErrorKind.InvalidArgument, "Container.ID required");
      }
      return { container: await containers.update(requireNamespace(call), container, updateMask?.paths ?? []) };
    },
    delete: async ({ id }, call) => {
      await containers.remove(requireNamespace(call), id);
      return {};
    },
  } satisfies Handlers<typeof Containers>);
}

/** @source containerd v2.3.4 core/metadata/adaptors.go `adaptContainer` */
const containerFields = recordFields(ContainerSchema, {
  id: ({ id }) => unlessEmpty(id),
  image: ({ image }) => unlessEmpty(image),
  runtime: ({ runtime }, path) => (path[1] === "name" ? unlessEmpty(runtime?.name) : undefined),
  labels: ({ labels }, path) => mapEntry(labels, path),
});
