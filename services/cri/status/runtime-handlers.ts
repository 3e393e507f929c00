import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import type { Logger } from "#fleet/log.ts";
import { RuntimeInfoSchema, RuntimeRequestSchema } from "#gen/containerd/types/introspection_pb.ts";
import type { RuntimeHandlerSchema } from "#gen/runtime/v1/api_pb.ts";
import type { CriSettings } from "../config.ts";
import type { CriPeers } from "../peers.ts";
import type { RuntimeSettings } from "../runtime-settings.ts";

type Handler = MessageInitShape<typeof RuntimeHandlerSchema>;

/** How long a runtime may take to tell of itself. */
const inspectMsMax = 20_000;

/** What of the features of an OCI runtime is looked at. @source opencontainers/runtime-spec features.md */
interface OciFeatures {
  readonly mountOptions?: readonly string[];
  readonly linux?: {
    readonly namespaces?: readonly string[];
    readonly mountExtensions?: { readonly idmap?: { readonly enabled?: boolean } };
  };
}

/** What is so on this machine. */
interface MachineSupport {
  /** Whether the kernel can make all below a mount read-only. */
  readonly hasRecursiveReadOnly: boolean;
}

/**
 * The runtimes and what pods may ask of them, sorted by name; the default one comes once more, without a name. Runtimes are asked
 * when the first client wants to know, since that runs programs.
 *
 * @source containerd v2.3.4 internal/cri/server/service.go `introspectRuntimeHandler`
 */
export function runtimeHandlers(
  { settings, peers, log }: { readonly settings: CriSettings; readonly peers: CriPeers; readonly log: Logger },
  support: MachineSupport,
): () => Promise<readonly Handler[]> {
  let asked: Promise<readonly Handler[]> | undefined;
  /** Which runtimes were asked. There are others once the configuration is read again. */
  let known: CriSettings["runtimes"] | undefined;
  const ask = async (): Promise<readonly Handler[]> => {
    const handlers = await Promise.all(
      [...settings.runtimes.values()].map(async (runtime): Promise<Handler> => {
        const { name } = runtime;
        try {
          return { name, features: featuresOf(await inspect(peers, runtime), support) };
        } catch (error) {
          log.debug({ runtime: name, err: error }, "failed to introspect features of a runtime");
          return { name };
        }
      }),
    );
    const standard = handlers.find(({ name }) => name === settings.defaultRuntimeName);
    return [...(standard === undefined ? [] : [{ ...standard, name: "" }]), ...handlers].sort((one, other) =>
      (one.name ?? "") < (other.name ?? "") ? -1 : 1,
    );
  };
  return () => {
    if (asked === undefined || settings.runtimes !== known) {
      known = settings.runtimes;
      asked = ask();
    }
    return asked;
  };
}

async function inspect({ tasksMember }: CriPeers, { type, path, options }: RuntimeSettings): Promise<OciFeatures> {
  const request = create(RuntimeRequestSchema, {
    runtimePath: path || type,
    ...(options === undefined ? {} : { options }),
  });
  const packed = { typeUrl: RuntimeRequestSchema.typeName, value: toBinary(RuntimeRequestSchema, request) };
  const { extra } = await tasksMember.inspect(
    { type: "io.containerd.runtime.v2", id: "task", options: create(AnySchema, packed) },
    { timeoutMs: inspectMsMax },
  );
  const features = extra === undefined ? undefined : fromBinary(RuntimeInfoSchema, extra.value).features;
  if (features === undefined) {
    throw new Error("the runtime does not tell its features");
  }
  return JSON.parse(Buffer.from(features.value).toString("utf8")) as OciFeatures;
}

function featuresOf({ mountOptions = [], linux }: OciFeatures, { hasRecursiveReadOnly }: MachineSupport) {
  return {
    recursiveReadOnlyMounts: mountOptions.includes("rro") && hasRecursiveReadOnly,
    userNamespaces: linux?.mountExtensions?.idmap?.enabled === true && linux.namespaces?.includes("user") === true,
  };
}
