import { create, fromBinary } from "@bufbuild/protobuf";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import type { FieldSource } from "#containerd/filter.ts";
import { ContainerSchema, Containers } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import { bindService, type Handlers, type ServiceBinding } from "#wire/handler.ts";
import { requireNamespace } from "#wire/headers.ts";
import type { ContainerStore } from "../store/containers.ts";
import { encodedResponse } from "./encoded.ts";
import { compileListFilters, filterRecords, listResponse, mapEntry, unlessEmpty } from "./filtered.ts";

/** Answers the Containers service. @source containerd v2.3.4 plugins/services/containers/local.go */
export function containersService(containers: ContainerStore): ServiceBinding {
  return bindService(Containers, {
    get: ({ id }, call) => encodedResponse([containers.get(requireNamespace(call), id)]),
    list: ({ filters }, call) =>
      listResponse(containers, requireNamespace(call), compileListFilters(filters), containerFields),
    async *listStream({ filters }, call) {
      const records = containers.list(requireNamespace(call));
      for (const record of filterRecords(records, compileListFilters(filters), containerFields)) {
        yield { container: fromBinary(ContainerSchema, record) };
      }
    },
    create: async ({ container }, call) => ({
      container: await containers.create(requireNamespace(call), container ?? create(ContainerSchema)),
    }),
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
function containerFields(record: Uint8Array): FieldSource {
  const container = fromBinary(ContainerSchema, record);
  return (path) => {
    switch (path[0]) {
      case "id":
        return unlessEmpty(container.id);
      case "image":
        return unlessEmpty(container.image);
      case "runtime":
        return path[1] === "name" ? unlessEmpty(container.runtime?.name) : undefined;
      case "labels":
        return mapEntry(container.labels, path);
      default:
        return undefined;
    }
  };
}
