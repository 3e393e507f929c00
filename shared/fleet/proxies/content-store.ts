import { ErrorKind, FlotillaError } from "#base/errors.ts";
import type { FleetConfig } from "#config/config.ts";
import { type ProxyPlugin, proxyPluginsOf } from "./proxy-plugins.ts";
import { withRegisteredPlugins } from "./registered-plugins.ts";

const contentType = "io.containerd.content.v1";
const localStore = `${contentType}.content`;

/**
 * The one content store that there is: our own, or a proxy plugin of type `content` when ours is disabled.
 *
 * @returns Undefined for our own.
 * @throws {@link FlotillaError} `unknown` or `not_found` in containerd's words when there are several, or none.
 * @source containerd v2.3.4 plugins/metadata/plugin.go; containerd/plugin v1.0 context.go `GetSingle`
 */
export async function chooseContentStore(config: FleetConfig): Promise<ProxyPlugin | undefined> {
  const isLocalThere = !config.disabledPlugins.includes(localStore);
  const proxied = proxyPluginsOf("content", await withRegisteredPlugins(config), []);
  if (proxied.length + Number(isLocalThere) > 1) {
    const text = `multiple plugins registered for ${contentType}: plugin: multiple instances`;
    throw new FlotillaError(ErrorKind.Unknown, text);
  }
  if (!isLocalThere && proxied.length === 0) {
    throw new FlotillaError(ErrorKind.NotFound, `no plugins registered for ${contentType}: plugin: not found`);
  }
  return proxied[0];
}
