import { LeaseSchema, Leases } from "#gen/containerd/services/leases/v1/leases_pb.ts";
import { bindService, type Handlers, type ServiceBinding } from "#wire/handler.ts";
import { requireNamespace } from "#wire/headers.ts";
import type { LeaseResource } from "../domain/lease.ts";
import type { Collector } from "../gc/schedule.ts";
import type { LeaseStore } from "../store/leases.ts";
import { encodedResponse } from "./encoded.ts";
import { listResponse } from "./filtered.ts";
import { mapEntry, recordFields, unlessEmpty } from "./record-fields.ts";

const noResource: LeaseResource = { type: "", id: "" };

/** Answers the Leases service. @source containerd v2.3.4 plugins/services/leases/service.go, plugins/leases/local.go */
export function leasesService(leases: LeaseStore, collector: Collector): ServiceBinding {
  return bindService(Leases, {
    create: async ({ id, labels }, call) => encodedResponse([await leases.create(requireNamespace(call), id, labels)]),
    delete: async ({ id, sync }, call) => {
      await leases.remove(requireNamespace(call), id);
      if (sync) {
        await collector.collect(call.signal);
      }
      return {};
    },
    list: ({ filters }, call) => listResponse(leases.table, requireNamespace(call), filters, leaseFields),
    addResource: async ({ id, resource }, call) => {
      await leases.addResource(requireNamespace(call), id, resource ?? noResource);
      return {};
    },
    deleteResource: async ({ id, resource }, call) => {
      await leases.removeResource(requireNamespace(call), id, resource ?? noResource);
      return {};
    },
    listResources: ({ id }, call) => ({ resources: leases.listResources(requireNamespace(call), id) }),
  } satisfies Handlers<typeof Leases>);
}

/** @source containerd v2.3.4 core/metadata/adaptors.go `adaptLease` */
const leaseFields = recordFields(LeaseSchema, {
  id: ({ id }) => unlessEmpty(id),
  labels: ({ labels }, path) => mapEntry(labels, path),
});
