import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { type PodSandboxConfig, Protocol } from "#gen/runtime/v1/api_pb.ts";
import { parseQuantity } from "./quantity.ts";

/** Burst of a limited bandwidth: as much as there can be. @source containerd v2.3.4 internal/cri/server/sandbox_run.go `toCNIBandWidth` */
const burstBits = 0xffff_ffff;
/** Slowest and fastest bandwidth that makes sense, in bits a second. @source containerd v2.3.4 internal/cri/bandwidth/utils.go */
const bandwidthBitsMin = 1_000n;
const bandwidthBitsMax = 1_000_000_000_000_000n;

const protocolNames: Readonly<Record<Protocol, string>> = {
  [Protocol.TCP]: "tcp",
  [Protocol.UDP]: "udp",
  [Protocol.SCTP]: "sctp",
};

/** What programs of CNI are told of a pod by `CNI_ARGS`. @source containerd v2.3.4 internal/cri/server/sandbox_run.go `toCNILabels` */
export function cniArgs(podId: string, { metadata }: PodSandboxConfig): readonly (readonly [string, string])[] {
  return [
    ["IgnoreUnknown", "1"],
    ["K8S_POD_INFRA_CONTAINER_ID", podId],
    ["K8S_POD_NAME", metadata?.name ?? ""],
    ["K8S_POD_NAMESPACE", metadata?.namespace ?? ""],
    ["K8S_POD_UID", metadata?.uid ?? ""],
  ];
}

/**
 * What programs of CNI are told of a pod that say they can use it.
 *
 * @throws {@link FlotillaError} `unknown` for a bandwidth that makes no sense.
 * @source containerd v2.3.4 internal/cri/server/sandbox_run.go `cniNamespaceOpts`
 */
export function cniCapabilities(config: PodSandboxConfig): Readonly<Record<string, unknown>> {
  const portMappings = config.portMappings
    .filter(({ hostPort }) => hostPort > 0)
    .map(({ hostPort, containerPort, protocol, hostIp }) => ({
      HostPort: hostPort,
      ContainerPort: containerPort,
      Protocol: protocolNames[protocol],
      HostIP: hostIp,
    }));
  const bandwidth = bandwidthOf(config.annotations);
  const { dnsConfig: dns, linux } = config;
  return {
    "io.kubernetes.cri.pod-annotations": config.annotations,
    ...(portMappings.length === 0 ? {} : { portMappings }),
    ...(bandwidth === undefined ? {} : { bandwidth }),
    ...(dns === undefined ? {} : { dns: { Servers: dns.servers, Searches: dns.searches, Options: dns.options } }),
    ...(linux === undefined || linux.cgroupParent === "" ? {} : { cgroupPath: linux.cgroupParent }),
  };
}

function bandwidthOf(annotations: Readonly<Record<string, string>>): Readonly<Record<string, number>> | undefined {
  const ingress = rateOf(annotations["kubernetes.io/ingress-bandwidth"]);
  const egress = rateOf(annotations["kubernetes.io/egress-bandwidth"]);
  if (ingress === undefined && egress === undefined) {
    return undefined;
  }
  return {
    IngressRate: ingress ?? 0,
    IngressBurst: ingress === undefined ? 0 : burstBits,
    EgressRate: egress ?? 0,
    EgressBurst: egress === undefined ? 0 : burstBits,
  };
}

function rateOf(text: string | undefined): number | undefined {
  if (text === undefined) {
    return undefined;
  }
  const rate = parseQuantity(text);
  if (rate === undefined) {
    throw unfit("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'");
  }
  if (rate < bandwidthBitsMin) {
    throw unfit("resource is unreasonably small (< 1kbit)");
  }
  if (rate > bandwidthBitsMax) {
    throw unfit("resource is unreasonably large (> 1Pbit)");
  }
  return Number(rate);
}

function unfit(reason: string): FlotillaError {
  return new FlotillaError(
    ErrorKind.Unknown,
    `get cni namespace options: reading pod bandwidth annotations: ${reason}`,
  );
}
