import type { PluginManifest } from "#fleet/manifest.ts";
import { imagesPlugin } from "./images-plugin.ts";
import { runtimePlugin } from "./runtime-plugin.ts";
import { serverPlugin } from "./server-plugin.ts";

/**
 * The plugins of CRI. No process carries them yet: their tables are read, migrated and printed, so that a configuration of containerd is kept
 * whole, and nothing else comes of them.
 */
export const criPlugins: readonly PluginManifest[] = [imagesPlugin, runtimePlugin, serverPlugin];
