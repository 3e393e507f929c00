/** What a host may be asked for. @source containerd v2.3.4 core/remotes/docker/registry.go `HostCapabilities` */
export type Capability = "pull" | "resolve" | "push" | "referrers";

/** What a host is asked for when nothing is said about it. */
export const allCapabilities: readonly Capability[] = ["pull", "resolve", "push", "referrers"];

/** How the certificates of a host are checked, and with which one we show who we are. Paths are absolute. */
export interface HostTls {
  /** Certificates that are trusted besides the system's. */
  readonly caFiles: readonly string[];
  /** Certificate and key; the key is in the certificate's file when it has no path of its own. */
  readonly clientFiles: readonly (readonly [certificate: string, key: string | undefined])[];
  readonly skipVerify: boolean;
}

/** A host of the distribution protocol: a registry, or a mirror of one. */
export interface RegistryHost {
  readonly scheme: "http" | "https";
  /** With its port if one is said. */
  readonly host: string;
  /** Where the API begins, such as `/v2`. */
  readonly path: string;
  readonly capabilities: readonly Capability[];
  readonly headers: readonly (readonly [name: string, value: string])[];
  /** Absent when nothing is said about certificates. */
  readonly tls?: HostTls;
  readonly dialTimeoutMs?: number;
  /** Asked by HTTPS first, and by HTTP when it answers in HTTP. */
  readonly fallsBackToHttp: boolean;
}

/**
 * Tells whether a host stands for the registry that a reference names without being it: then requests name the registry in `ns`.
 *
 * @source containerd v2.3.4 core/remotes/docker/registry.go `RegistryHost.isProxy`
 */
export function isProxyFor(host: RegistryHost, registry: string): boolean {
  return host.host !== registry && !(registry === "docker.io" && host.host === "registry-1.docker.io");
}
