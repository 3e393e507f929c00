const goArchitectures: Readonly<Record<string, string>> = { x64: "amd64", ia32: "386", ppc64: "ppc64le" };

/** A platform in the words of the OCI image specification. */
export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant: string;
}

/** The platform of this machine. */
export function hostPlatform(): Platform {
  const architecture = goArchitectures[process.arch] ?? process.arch;
  return { os: process.platform, architecture, variant: architecture === "arm64" ? "v8" : "" };
}

/** This machine as configuration names it, such as `linux/amd64` or `linux/arm64`. */
export function hostPlatformName(): string {
  const { os, architecture } = hostPlatform();
  return `${os}/${architecture}`;
}
