const goArchitectures: Readonly<Record<string, string>> = { x64: "amd64", ia32: "386", ppc64: "ppc64le" };

/** This machine in the notation of the OCI image specification, such as `linux/amd64` or `linux/arm64`. */
export function hostPlatformName(): string {
  return `${process.platform}/${goArchitectures[process.arch] ?? process.arch}`;
}
