import type { PluginManifest } from "#fleet/manifest.ts";
import { imagesPlugin } from "./images-plugin.ts";
import { nriPlugin } from "./nri-plugin.ts";
import { runtimePlugin } from "./runtime-plugin.ts";
import { serverPlugin } from "./server-plugin.ts";

/** The plugins of this process, in the order of their initialisation. */
export const criPlugins: readonly PluginManifest[] = [imagesPlugin, runtimePlugin, nriPlugin, serverPlugin];
