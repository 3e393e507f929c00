import { mkdir, readFile } from "node:fs/promises";
import { BlockList, isIPv4, isIPv6 } from "node:net";
import { replaceFile } from "#base/durable-file.ts";
import { ErrorKind, FlotillaError, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import type { Logger } from "#fleet/log.ts";
import type { RuntimeService } from "#gen/runtime/v1/api_pb.ts";
import type { Handlers } from "#wire/handler.ts";
import type { NetworkSettings } from "../config.ts";
import type { CriMetrics } from "../metrics/cri-metrics.ts";
import { fillTemplate } from "./go-template.ts";
import type { PodNetworks } from "./pod-networks.ts";

/** @source containerd v2.3.4 internal/cri/server/update_runtime_config.go `cniConfigFileName` */
const confFileName = "10-containerd-net.conflist";

/**
 * Makes a configuration of CNI of the template and of the addresses that the kubelet has for pods, unless there is one.
 *
 * @source containerd v2.3.4 internal/cri/server/update_runtime_config.go
 */
export function updateRuntimeConfigCall(
  settings: { readonly network: NetworkSettings },
  { networks, metrics }: { readonly networks: PodNetworks; readonly metrics: CriMetrics },
  log: Logger,
): Pick<Handlers<typeof RuntimeService>, "updateRuntimeConfig"> {
  return {
    updateRuntimeConfig: async ({ runtimeConfig }) => {
      const text = runtimeConfig?.networkConfig?.podCidr ?? "";
      const { confTemplate, confDirectory } = settings.network;
      if (text === "") {
        return {};
      }
      const ranges = text.split(",").map((range) => range.trim());
      const routes = routesOf(ranges);
      if (confTemplate === "") {
        log.info("No cni config template is specified, wait for other system components to drop the config.");
        return {};
      }
      const isReady = await metrics
        .network("get_pod_network_status", () => networks.requireReady())
        .then(
          () => true,
          () => false,
        );
      if (isReady) {
        log.info({ template: confTemplate }, "Network plugin is ready, skip generating cni config from template");
        return {};
      }
      let filled: string;
      try {
        filled = fillTemplate(await readFile(confTemplate, "utf8"), {
          PodCIDR: ranges[0] ?? "",
          PodCIDRRanges: ranges,
          Routes: routes,
        });
      } catch (error) {
        throw wrapFailure(error, `failed to parse cni config template ${quote(confTemplate)}`);
      }
      await mkdir(confDirectory, { recursive: true, mode: 0o755 });
      await replaceFile(`${confDirectory}/${confFileName}`, filled, { mode: 0o644 });
      return {};
    },
  };
}

/** The routes out of networks of these ranges. @throws {@link FlotillaError} `unknown` for what is no range. */
export function routesOf(ranges: readonly string[]): string[] {
  const versions = new Set(ranges.map(versionOf));
  return [...(versions.has("ipv4") ? ["0.0.0.0/0"] : []), ...(versions.has("ipv6") ? ["::/0"] : [])];
}

function versionOf(range: string): "ipv4" | "ipv6" {
  const [address = "", bits = "", ...more] = range.split("/");
  const version = isIPv4(address) ? "ipv4" : isIPv6(address) ? "ipv6" : undefined;
  try {
    if (version !== undefined && /^\d+$/.test(bits) && more.length === 0) {
      new BlockList().addSubnet(address, Number(bits), version);
      return version;
    }
  } catch {
    // Told below.
  }
  throw new FlotillaError(ErrorKind.Unknown, `get routes: invalid CIDR address: ${range}`);
}
