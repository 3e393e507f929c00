import { isIPv4 } from "node:net";
import { ErrorKind, FlotillaError } from "#base/errors.ts";

/** What CNI programs say that they have done, in the words of version 1.0 of the specification, as far as it is used. @source CNI specification 1.1, ADD success */
export interface CniResult {
  readonly cniVersion?: string;
  readonly interfaces?: readonly {
    readonly name: string;
    readonly mac?: string;
    readonly sandbox?: string;
    readonly pciID?: string;
    readonly socketPath?: string;
  }[];
  readonly ips?: readonly { readonly address: string; readonly gateway?: string; readonly interface?: number }[];
  readonly routes?: readonly Readonly<Record<string, unknown>>[];
  readonly dns?: Readonly<Record<string, unknown>>;
}

/** The network of a pod, as containerd keeps it in its records. The keys are Go's. @source containerd/go-cni result.go `Result` */
export interface NetworkResult {
  readonly Interfaces: Readonly<Record<string, NetworkInterface>>;
  readonly DNS: readonly Readonly<Record<string, unknown>>[];
  readonly Routes: readonly Readonly<Record<string, unknown>>[] | null;
}

/** @source containerd/go-cni result.go `Config` */
export interface NetworkInterface {
  readonly IPConfigs: readonly { readonly IP: string; readonly Gateway: string }[] | null;
  readonly Mac: string;
  readonly Sandbox: string;
  readonly PciID: string;
  readonly SocketPath: string;
}

/** The interface whose addresses are the pod's. @source containerd/go-cni `DefaultPrefix`, containerd v2.3.4 internal/cri/server/sandbox_run.go `defaultIfName` */
export const defaultInterface = "eth0";

/**
 * Joins the results of the networks of a pod.
 *
 * @throws {@link FlotillaError} `unknown` for an address of an interface that is not there.
 * @source containerd/go-cni result.go `createResult`
 */
export function joinResults(results: readonly CniResult[]): NetworkResult {
  type Filling = { -readonly [K in keyof NetworkInterface]: NetworkInterface[K] } & {
    IPConfigs: { IP: string; Gateway: string }[] | null;
  };
  const blank = (): Filling => ({ IPConfigs: null, Mac: "", Sandbox: "", PciID: "", SocketPath: "" });
  const interfaces: Record<string, Filling> = { [defaultInterface]: blank() };
  const dns: Readonly<Record<string, unknown>>[] = [];
  const routes: Readonly<Record<string, unknown>>[] = [];
  for (const result of results) {
    const listed = result.interfaces ?? [];
    for (const { name, mac = "", sandbox = "", pciID = "", socketPath = "" } of listed) {
      interfaces[name] = { IPConfigs: null, Mac: mac, Sandbox: sandbox, PciID: pciID, SocketPath: socketPath };
    }
    for (const { address, gateway = "", interface: index } of result.ips ?? []) {
      if (index !== undefined && index >= listed.length && index !== 0) {
        throw new FlotillaError(
          ErrorKind.Unknown,
          `invalid interface config: invalid IP configuration (interface number ${index} is > number of interfaces ${listed.length}): invalid result`,
        );
      }
      const name = (index === undefined ? undefined : listed[index]?.name) ?? defaultInterface;
      const filling = (interfaces[name] ??= blank());
      (filling.IPConfigs ??= []).push({ IP: address.replace(/\/.*$/, ""), Gateway: gateway });
    }
    dns.push(result.dns ?? {});
    routes.push(...(result.routes ?? []));
  }
  return { Interfaces: interfaces, DNS: dns, Routes: routes.length > 0 ? routes : null };
}

/**
 * Chooses the address that a pod is known by.
 *
 * @param preference - Which version of IP it shall have, if there is one; `cni` for the first that is told.
 * @returns undefined when it has none.
 * @source containerd v2.3.4 internal/cri/server/sandbox_run.go `selectPodIPs`
 */
export function choosePodIps(
  { Interfaces: interfaces }: NetworkResult,
  preference: "ipv4" | "ipv6" | "cni",
): { readonly ip: string; readonly additionalIps: readonly string[] } | undefined {
  const all = (interfaces[defaultInterface]?.IPConfigs ?? []).map(({ IP: address }) => address);
  const preferred = preference === "cni" ? all[0] : all.find((address) => isIPv4(address) === (preference === "ipv4"));
  const ip = preferred ?? all[0];
  return ip === undefined ? undefined : { ip, additionalIps: all.filter((address) => address !== ip) };
}
