import { create } from "@bufbuild/protobuf";
import { Store } from "#gen/containerd/services/sandbox/v1/sandbox_pb.ts";
import { SandboxSchema } from "#gen/containerd/types/sandbox_pb.ts";
import { bindService, type Handlers, type ServiceBinding } from "#wire/handler.ts";
import { requireNamespace } from "#wire/headers.ts";
import type { SandboxStore } from "../store/sandboxes.ts";
import { encodedResponse } from "./encoded.ts";
import { listResponse } from "./filtered.ts";
import { mapEntry, recordFields } from "./record-fields.ts";

/** Answers the sandbox Store service. @source containerd v2.3.4 plugins/services/sandbox/store_service.go */
export function sandboxStoreService(sandboxes: SandboxStore): ServiceBinding {
  return bindService(Store, {
    create: async ({ sandbox }, call) =>
      encodedResponse([await sandboxes.create(requireNamespace(call), sandbox ?? create(SandboxSchema))]),
    update: async ({ sandbox, fields }, call) => ({
      sandbox: await sandboxes.update(requireNamespace(call), sandbox ?? create(SandboxSchema), fields),
    }),
    delete: async ({ sandboxId }, call) => {
      await sandboxes.remove(requireNamespace(call), sandboxId);
      return {};
    },
    list: ({ filters }, call) => listResponse(sandboxes.table, requireNamespace(call), filters, sandboxFields),
    get: ({ sandboxId }, call) => encodedResponse([sandboxes.get(requireNamespace(call), sandboxId)]),
  } satisfies Handlers<typeof Store>);
}

/** @source containerd v2.3.4 core/metadata/adaptors.go `adaptSandbox` */
const sandboxFields = recordFields(SandboxSchema, {
  id: ({ sandboxId }) => sandboxId,
  labels: ({ labels }, path) => mapEntry(labels, path),
});
