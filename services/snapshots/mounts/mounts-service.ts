import type { MessageInitShape } from "@bufbuild/protobuf";
import { ErrorKind, FlotillaError, isFailure } from "#base/errors.ts";
import { timestampOf } from "#base/times.ts";
import { Mounts } from "#gen/containerd/services/mounts/v1/mounts_pb.ts";
import type { ActivationInfoSchema, Mount as MountMessage } from "#gen/containerd/types/mount_pb.ts";
import { Activations } from "#gen/flotilla/mounts/v1/activations_pb.ts";
import type { Mount } from "#linux/mount.ts";
import { bindService, type Handlers, type ServiceBinding } from "#wire/handler.ts";
import { leaseOf, requireNamespace } from "#wire/headers.ts";
import type { Activation } from "./activation.ts";
import type { MountManager } from "./mount-manager.ts";

/** The public Mounts service. @source containerd v2.3.4 plugins/services/mounts/service.go */
export function mountsService(manager: MountManager): ServiceBinding {
  return bindService(Mounts, {
    activate: async ({ name, mounts, labels, temporary }, call) => {
      const owner = { namespace: requireNamespace(call), lease: leaseOf(call) };
      const order = {
        ...owner,
        name,
        mounts: mounts.map(readMount),
        labels,
        temporary,
        allowedTypes: [],
        call: call.id,
      };
      return { info: writeInfo(await manager.activate(order)) };
    },
    deactivate: async ({ name }, call) => {
      await manager.deactivate(requireNamespace(call), name, call.id);
      return {};
    },
    info: ({ name }, call) => ({ info: writeInfo(manager.info(requireNamespace(call), name)) }),
    update: () => {
      throw new FlotillaError(ErrorKind.NotImplemented, ErrorKind.NotImplemented);
    },
    // Filters are not looked at, as in containerd.
    list: async function* (_request, call) {
      for (const activation of manager.list(requireNamespace(call))) {
        yield { info: writeInfo(activation) };
      }
    },
  } satisfies Handlers<typeof Mounts>);
}

/** The private service, for processes that mount and for the collector. The contract stands in activations.proto. */
export function activationsService(manager: MountManager): ServiceBinding {
  return bindService(Activations, {
    activateMounts: async ({ namespace, name, mounts, labels, allowedTypes }, { id: call }) => {
      const order = {
        leavesBind: true,
        namespace,
        name,
        lease: "",
        mounts: mounts.map(readMount),
        labels,
        temporary: false,
        allowedTypes,
        call,
      };
      try {
        return { info: writeInfo(await manager.activate(order)), existed: false };
      } catch (error) {
        if (isFailure(error, ErrorKind.AlreadyExists)) {
          return { info: writeInfo(manager.info(namespace, name)), existed: true };
        }
        throw error;
      }
    },
    removeMounts: async ({ ids }) => ({ removedIds: await manager.removeMounts(ids) }),
  } satisfies Handlers<typeof Activations>);
}

function readMount({ type, source, target, options }: MountMessage): Mount {
  return { type, source, target, options };
}

function writeInfo({ name, active, system, labels }: Activation): MessageInitShape<typeof ActivationInfoSchema> {
  return {
    name,
    active: active.map(({ mount, mountPoint, mountedAtNs }) => ({
      mount: writeMount(mount),
      mountPoint,
      mountedAt: timestampOf(mountedAtNs),
    })),
    system: system.map(writeMount),
    labels: { ...labels },
  };
}

function writeMount({ type, source, target = "", options }: Mount): {
  type: string;
  source: string;
  target: string;
  options: string[];
} {
  return { type, source, target, options: [...options] };
}
