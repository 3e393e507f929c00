import { type LinuxContainerResources, NamespaceMode, type PodSandboxConfig } from "#gen/runtime/v1/api_pb.ts";
import type { NetworkResult } from "../network/result.ts";
import type { RuntimeSettings } from "../runtime-settings.ts";
import type { IdTable } from "./id-table.ts";

/**
 * Whether containers can run in a pod. `unknown` is a pod whose state could not be found out, or whose creation failed and could not be undone:
 * it is shown as not ready, and stopping it clears it away.
 *
 * @source containerd v2.3.4 internal/cri/store/sandbox/status.go `State`
 */
export type PodState = "ready" | "notready" | "unknown";

/** A pod of this machine: its sandbox and what belongs to all of its containers. Changed by `pods/` alone. */
export interface Pod {
  readonly id: string;
  /** What the kubelet calls it, and no other at the same time. */
  readonly name: string;
  readonly config: PodSandboxConfig;
  /** As the kubelet named it, "" for the default. */
  readonly runtimeHandler: string;
  /** What the handler means; undefined for a pod that was there before the handler left the configuration. */
  readonly runtime: RuntimeSettings | undefined;
  /** Who runs the sandbox: `podsandbox` or `shim`. */
  readonly sandboxer: string;
  /** `<root>/…/sandboxes/ID`: hostname, hosts, resolv.conf. */
  readonly directory: string;
  /** `<state>/…/sandboxes/ID`: shm, namespaces. */
  readonly stateDirectory: string;
  /** Nanoseconds since 1970. */
  createdAtNs: bigint;
  /** Where its network namespace is mounted; "" with the network of the host. */
  netnsPath: string;
  network: NetworkResult | undefined;
  /** Address that it is known by; "" with the network of the host. */
  ip: string;
  additionalIps: readonly string[];
  /** SELinux label, "" for none. */
  processLabel: string;
  state: PodState;
  /** Of the process that keeps the sandbox, 0 when there is none. */
  pid: number;
  /** Where containers of the sandbox are run, `ttrpc+unix://…`; "" where each has a shim of its own. */
  endpoint: { readonly address: string; readonly version: number };
  exit: { readonly status: number; readonly atNs: bigint } | undefined;
  /** Limits of the whole pod as they were last changed; undefined where they are those of the configuration. */
  updatedResources:
    | {
        readonly overhead: LinuxContainerResources | undefined;
        readonly resources: LinuxContainerResources | undefined;
      }
    | undefined;
  /** Aborts when the sandbox has ended. */
  readonly ended: AbortController;
}

/** The pods of this machine. */
export type PodTable = IdTable<Pod>;

/** Whether a pod has the network of the host. @source containerd v2.3.4 internal/cri/server/helpers.go `hostNetwork` */
export function hasHostNetwork({ linux }: PodSandboxConfig): boolean {
  return linux?.securityContext?.namespaceOptions?.network === NamespaceMode.NODE;
}
