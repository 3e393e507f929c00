import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { type Any, AnySchema } from "@bufbuild/protobuf/wkt";
import { ErrorKind, FlotillaError, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { RuntimeInfoSchema } from "#gen/containerd/types/introspection_pb.ts";
import { ProgramFailure, runProgram } from "../../program.ts";

const infoTimeoutMs = 10_000;
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
export async function requireMappedMounts(binary: string, options: Any | undefined): Promise<void> {
  const features = await readFeatures(binary, options);
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

async function readFeatures(binary: string, options: Any | undefined): Promise<Features | undefined> {
  const output = await runProgram({
    path: binary,
    args: ["-info"],
    environment: process.env,
    input: options === undefined ? undefined : toBinary(AnySchema, options),
    timeoutMs: infoTimeoutMs,
  }).catch((error: unknown) => {
    const stderr = error instanceof ProgramFailure ? ` (stderr: ${quote(error.output.stderr.toString("utf8"))})` : "";
    const wrapped = wrapFailure(error, `runtime info: failed to run [${binary} -info]`);
    throw new FlotillaError(wrapped.kind, `${wrapped.message}${stderr}`, { cause: error });
  });
  const { features } = fromBinary(RuntimeInfoSchema, output.stdout);
  return features?.typeUrl === featuresTypeUrl
    ? (JSON.parse(Buffer.from(features.value).toString("utf8")) as Features)
    : undefined;
}
