import { create, toBinary } from "@bufbuild/protobuf";
import {
  type PodSandboxFilter,
  PodSandboxSchema,
  PodSandboxState,
  type PodSandboxStatus,
  PodSandboxStatusSchema,
} from "#gen/runtime/v1/api_pb.ts";
import { isNamespace } from "#linux/network-namespace.ts";
import { ListedForms } from "../store/listed-forms.ts";
import type { Pod, PodTable } from "../store/pod.ts";

/**
 * A pod as the kubelet is told of it.
 *
 * @source containerd v2.3.4 internal/cri/server/sandbox_status.go `toCRISandboxStatus`
 */
export function podStatus(pod: Pod): PodSandboxStatus {
  const { config } = pod;
  const hasNetwork = pod.netnsPath !== "" && isNamespace(pod.netnsPath);
  const options = config.linux?.securityContext?.namespaceOptions;
  return create(PodSandboxStatusSchema, {
    id: pod.id,
    ...(config.metadata === undefined ? {} : { metadata: config.metadata }),
    state: stateOf(pod),
    createdAt: pod.createdAtNs,
    network: hasNetwork ? { ip: pod.ip, additionalIps: pod.additionalIps.map((ip) => ({ ip })) } : {},
    linux: { namespaces: options === undefined ? {} : { options } },
    labels: config.labels,
    annotations: config.annotations,
    runtimeHandler: pod.runtimeHandler,
  });
}

/** Pods as lists show them. @source containerd v2.3.4 internal/cri/server/sandbox_list.go `toCRISandbox` */
export const listedPods = new ListedForms(encodePod, stateOf);

function encodePod(pod: Pod): Uint8Array {
  const { config } = pod;
  return toBinary(
    PodSandboxSchema,
    create(PodSandboxSchema, {
      id: pod.id,
      ...(config.metadata === undefined ? {} : { metadata: config.metadata }),
      state: stateOf(pod),
      createdAt: pod.createdAtNs,
      labels: config.labels,
      annotations: config.annotations,
      runtimeHandler: pod.runtimeHandler,
    }),
  );
}

/**
 * The pods that a filter picks. An id may be cut short; one that means several or nothing is taken for a whole one.
 *
 * @source containerd v2.3.4 internal/cri/server/sandbox_list.go `filterCRISandboxes`
 */
export function filterPods(pods: PodTable, filter: PodSandboxFilter | undefined): Pod[] {
  if (filter === undefined) {
    return pods.all();
  }
  const selectors = Object.entries(filter.labelSelector);
  const wantedState = filter.state?.state;
  const candidates = filter.id === "" ? pods.all() : podsOf(pods, filter.id);
  return candidates.filter(
    (pod) =>
      (wantedState === undefined || wantedState === stateOf(pod)) &&
      selectors.every(([key, value]) => pod.config.labels[key] === value),
  );
}

function podsOf(pods: PodTable, id: string): Pod[] {
  try {
    const pod = pods.find(id);
    return pod === undefined ? [] : [pod];
  } catch {
    return [];
  }
}

function stateOf({ state }: Pod): PodSandboxState {
  return state === "ready" ? PodSandboxState.SANDBOX_READY : PodSandboxState.SANDBOX_NOTREADY;
}
