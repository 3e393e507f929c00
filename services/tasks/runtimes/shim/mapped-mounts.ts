import { ErrorKind, FlotillaError } from "#base/errors.ts";
import type { RuntimeInfo } from "#gen/containerd/types/introspection_pb.ts";

const featuresTypeUrl = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/** A mount of a specification, as far as it matters here. */
interface SpecMount {
  readonly uidMappings?: unknown;
  readonly gidMappings?: unknown;
  readonly options?: readonly string[];
}

/**
 * Tells whether a specification asks for mounts with mapped ids, which runtimes that don't know them leave out silently.
 *
 * @source containerd v2.3.4 core/runtime/v2/task_manager.go `usesIDMapMounts`
 */
export function usesMappedMounts(spec: Uint8Array): boolean {
  const text = Buffer.from(spec.buffer, spec.byteOffset, spec.byteLength);
  if (!["Mappings", "idmap"].some((word) => text.includes(word))) {
    return false;
  }
  const { mounts = [] } = JSON.parse(text.toString("utf8")) as { mounts?: readonly SpecMount[] };
  return mounts.some(
    ({ uidMappings, gidMappings, options = [] }) =>
      (uidMappings ?? undefined) !== undefined ||
      (gidMappings ?? undefined) !== undefined ||
      options.some((option) => option === "idmap" || option === "ridmap"),
  );
}

/**
 * Makes sure that the runtime behind a shim can mount with mapped ids. Runtimes that say nothing of runc's features pass.
 *
 * @throws {@link FlotillaError} `unknown` with containerd's text.
 * @source containerd v2.3.4 core/runtime/v2/task_manager.go `validateRuntimeFeatures`, `supportsIDMapMounts`
 */
export function requireMappedMounts({ features: packed }: RuntimeInfo): void {
  const features =
    packed?.typeUrl === featuresTypeUrl
      ? (JSON.parse(Buffer.from(packed.value).toString("utf8")) as Features)
      : undefined;
  if (features === undefined) {
    return;
  }
  const idmap = features.linux?.mountExtensions?.idmap;
  if (idmap?.enabled !== true) {
    const reason =
      idmap === undefined
        ? "missing `mountExtensions.idmap` entry in `features` command"
        : "entry `mountExtensions.idmap.Enabled` in `features` command not present or disabled";
    throw new FlotillaError(ErrorKind.Unknown, `idmap mounts not supported: ${reason}`);
  }
}

interface Features {
  readonly linux?: { readonly mountExtensions?: { readonly idmap?: { readonly enabled?: boolean } } };
}
