import { isIPv4 } from "node:net";
import type { RegistryRequest } from "../ports.ts";
import { allCapabilities, type HostTls, type RegistryHost } from "./host.ts";
import { findHostDirectory, readHostDirectory } from "./host-directory.ts";
import type { ConfiguredHost } from "./hosts-file.ts";

/** What decides on the hosts of a registry besides its name. */
export type HostRules = Pick<RegistryRequest, "hostDirectories" | "defaultScheme" | "onWarning">;

/**
 * The hosts to ask for a registry, in order: its mirrors as configured, and the registry itself.
 *
 * A registry on this machine is asked by HTTPS without a look at its certificate, and by HTTP if it answers so.
 *
 * @param registry - As references name it: `docker.io`, `localhost:5000`.
 * @throws Error of the file system when a directory is there and can't be read.
 * @source containerd v2.3.4 core/remotes/docker/config/hosts.go `ConfigureHosts`
 */
export async function findRegistryHosts(registry: string, rules: HostRules): Promise<readonly RegistryHost[]> {
  const directory = await findHostDirectory(rules.hostDirectories, registry);
  const configured =
    directory === undefined
      ? [{ capabilities: allCapabilities, headers: [] }]
      : await readHostDirectory(directory, (text) => rules.onWarning?.(text));
  return configured.map((host) => completeHost(host, registry, rules.defaultScheme));
}

function completeHost(configured: ConfiguredHost, registry: string, defaultScheme: string): RegistryHost {
  const { headers, dialTimeoutMs } = configured;
  const { address, capabilities, tls } =
    configured.address === undefined
      ? { ...ownHost(registry, defaultScheme, configured.tls), capabilities: allCapabilities }
      : { ...configured, address: configured.address };
  const port = portOf(address.host);
  const fallsBackToHttp = address.scheme === "http" && tls !== undefined && port !== "80";
  return {
    ...address,
    scheme: fallsBackToHttp ? "https" : address.scheme,
    capabilities,
    headers,
    ...(tls === undefined ? {} : { tls }),
    ...(dialTimeoutMs === undefined ? {} : { dialTimeoutMs }),
    fallsBackToHttp,
  };
}

function ownHost(
  registry: string,
  defaultScheme: string,
  tls: HostTls | undefined,
): Pick<ConfiguredHost, "tls"> & { address: NonNullable<ConfiguredHost["address"]> } {
  const configuredTls = tls === undefined ? {} : { tls };
  const at = (scheme: string, host: string): NonNullable<ConfiguredHost["address"]> => ({
    scheme: scheme === "http" ? "http" : "https",
    host,
    path: "/v2",
  });
  if (registry === "docker.io") {
    return { address: at("https", "registry-1.docker.io"), ...configuredTls };
  }
  if (defaultScheme !== "" || !isLocalhost(registry)) {
    return { address: at(defaultScheme === "" ? "https" : defaultScheme, registry), ...configuredTls };
  }
  const port = portOf(registry);
  const address = at(port === "" || port === "443" ? "https" : "http", registry);
  if (port === "80") {
    return { address, ...configuredTls };
  }
  return { address, tls: { caFiles: [], clientFiles: [], ...tls, skipVerify: true } };
}

/** @source containerd v2.3.4 core/remotes/docker/resolver.go `IsLocalhost` */
function isLocalhost(registry: string): boolean {
  const name = registry.replace(/:[0-9]*$/, "").replace(/^\[(.*)\]$/, "$1");
  return name === "localhost" || name === "::1" || (isIPv4(name) && name.startsWith("127."));
}

function portOf(host: string): string {
  return /:([0-9]*)$/.exec(host)?.[1] ?? "";
}
