import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Deprecation } from "#config/manifest.ts";
import type { RuntimeConditionSchema, RuntimeHandlerSchema, RuntimeService } from "#gen/runtime/v1/api_pb.ts";
import type { Handlers } from "#wire/handler.ts";
import type { CriSettings } from "../config.ts";
import type { AttachedNetwork } from "../network/conf-directory.ts";
import type { CniPlugin } from "../network/conf-list.ts";
import { commonNetwork, type PodNetworks } from "../network/pod-networks.ts";

/** What the status is made of. */
export interface StatusParts {
  readonly settings: CriSettings;
  readonly networks: PodNetworks;
  readonly handlers: () => Promise<readonly MessageInitShape<typeof RuntimeHandlerSchema>[]>;
  /** What is in use at the moment. */
  readonly deprecations: () => readonly Deprecation[];
}

/** @source containerd v2.3.4 internal/cri/server/status.go `networkNotReadyReason` */
const networkNotReady = "NetworkPluginNotReady";

/**
 * Tells whether the runtime and its network are ready.
 *
 * @source containerd v2.3.4 internal/cri/server/status.go
 */
export function statusCall(parts: StatusParts): Pick<Handlers<typeof RuntimeService>, "status"> {
  return {
    status: async ({ verbose }) => {
      const trouble = await parts.networks.trouble();
      return {
        status: {
          conditions: [
            { type: "RuntimeReady", status: true },
            trouble === undefined
              ? { type: "NetworkReady", status: true }
              : {
                  type: "NetworkReady",
                  status: false,
                  reason: networkNotReady,
                  message: `Network plugin returns error: ${trouble}`,
                },
            deprecationCondition(parts),
          ],
        },
        info: verbose ? await verboseInfo(parts) : {},
        runtimeHandlers: [...(await parts.handlers())],
        features: { supplementalGroupsPolicy: true, userNamespacesHostNetwork: true },
      };
    },
  };
}

function deprecationCondition({
  settings,
  deprecations,
}: StatusParts): MessageInitShape<typeof RuntimeConditionSchema> {
  const type = "ContainerdHasNoDeprecationWarnings";
  const told = deprecations().filter(({ id }) => !settings.ignoreDeprecationWarnings.includes(id));
  if (told.length === 0) {
    return { type, status: true };
  }
  const message = JSON.stringify(Object.fromEntries(told.map(({ id, message: text }) => [id, text])));
  return { type, status: false, reason: "ContainerdHasDeprecationWarnings", message };
}

async function verboseInfo({ settings, networks }: StatusParts): Promise<Record<string, string>> {
  const loaded = await networks.loaded();
  const common = loaded.get(commonNetwork);
  const info: Record<string, string> = {
    config: JSON.stringify(settings.described),
    golang: JSON.stringify(process.version),
    cniconfig: JSON.stringify({
      PluginDirs: settings.network.binaryDirectories,
      PluginConfDir: settings.network.confDirectory,
      PluginMaxConfNum: settings.network.confNumMax,
      Prefix: "eth",
      Networks: [...networks.always, ...(common?.networks ?? [])].map(describeNetwork),
    }),
    lastCNILoadStatus: common?.error?.message ?? "OK",
  };
  for (const [name, { error }] of loaded) {
    info[`lastCNILoadStatus.${name}`] = error?.message ?? "OK";
  }
  return info;
}

/** @source containerd/go-cni cni.go `GetConfig` */
function describeNetwork({ network, interfaceName }: AttachedNetwork): Record<string, unknown> {
  return {
    Config: {
      Name: network.name,
      CNIVersion: network.cniVersion,
      Plugins: network.plugins.map(describePlugin),
      Source: network.source,
    },
    IFName: interfaceName,
  };
}

/** What libcni knows of a program, and its whole configuration. @source containernetworking/cni v1.3 pkg/types/types.go `PluginConf` */
function describePlugin({ type, capabilities, conf }: CniPlugin): Record<string, unknown> {
  const { ipam } = conf;
  const manager = typeof ipam === "object" && ipam !== null && "type" in ipam ? { type: ipam.type } : {};
  const told = Object.keys(capabilities).length === 0 ? {} : { capabilities };
  return { Network: { ...told, ipam: manager, type }, Source: JSON.stringify(conf) };
}
