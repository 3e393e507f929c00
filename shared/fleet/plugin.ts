import { create } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import { ErrorKind, errorMessage, FlotillaError, failure } from "#base/errors.ts";
import type { FleetConfig } from "#config/config.ts";
import { hostPlatform } from "#config/host-platform.ts";
import { pluginUri } from "#config/manifest.ts";
import type { ImagePlatform } from "#containerd/platform.ts";
import { type Plugin, PluginSchema } from "#gen/containerd/services/introspection/v1/introspection_pb.ts";
import { codeOf } from "#wire/errors.ts";
import type { ServiceBinding } from "#wire/handler.ts";
import type { Logger } from "./log.ts";
import type { PluginManifest } from "./manifest.ts";
import type { TracedInit } from "./tracing/start-spans.ts";

/**
 * A part of a process that containerd's users know by type and id, and that may fail or be skipped by itself: its manifest and what it does.
 */
export interface PluginDefinition {
  readonly manifest: PluginManifest;
  /**
   * Makes the plugin ready. Throwing marks it as failed, and {@link skipPlugin} as skipped; the others go on.
   */
  init?(): Promise<PluginFacts | undefined> | PluginFacts | undefined;
}

/** What a plugin tells of itself once it is ready, beyond what its manifest says. */
export interface PluginFacts {
  readonly exports?: Readonly<Record<string, string>>;
  readonly capabilities?: readonly string[];
  readonly services?: readonly ServiceBinding[];
  /**
   * Tells clients more about the plugin, by options that the plugin defines.
   *
   * @throws {@link FlotillaError} `not_implemented` for options that it does not know.
   */
  inspect?(options: Any): Promise<Any>;
}

const skipSuffix = "skip plugin";

/**
 * The error by which a plugin says that it does not fit this machine, or that nobody wants it.
 *
 * @param reason - Absent where containerd gives none, as for a socket without an address.
 * @source containerd/plugin v1.0 plugin.go `ErrSkipPlugin`
 */
export function skipPlugin(reason?: string): FlotillaError {
  return new FlotillaError(ErrorKind.Unknown, reason === undefined ? skipSuffix : `${reason}: ${skipSuffix}`);
}

/** As {@link skipPlugin}, for plugins of containerd that give the reason last. */
export function skipPluginBecause(reason: string): FlotillaError {
  return new FlotillaError(ErrorKind.Unknown, `${skipSuffix}: ${reason}`);
}

/** Tells whether an init error is a {@link skipPlugin} or a {@link skipPluginBecause}. */
export function isSkipped(message: string): boolean {
  return message === skipSuffix || message.endsWith(`: ${skipSuffix}`) || message.startsWith(`${skipSuffix}: `);
}

export interface InitialisedPlugins {
  /** In the order of initialisation, as Introspection shows them. */
  readonly plugins: readonly Plugin[];
  /** What the plugins that succeeded serve. */
  readonly services: readonly ServiceBinding[];
  /** @see {@link PluginFacts.inspect} */
  inspect(plugin: { readonly type: string; readonly id: string }, options: Any): Promise<Any>;
}

/** Describes a plugin as Introspection shows it, by its manifest and what it has told since. */
export function describePlugin(
  { type, id, requires = [], exports = {}, capabilities = [], platformDependent = false, platform }: PluginManifest,
  facts: PluginFacts = {},
): Plugin {
  return create(PluginSchema, {
    type,
    id,
    requires: [...requires],
    exports: { ...exports, ...facts.exports },
    capabilities: [...capabilities, ...(facts.capabilities ?? [])],
    platforms: shownPlatforms(platformDependent, platform),
  });
}

function shownPlatforms(
  platformDependent: boolean,
  platform: PluginManifest["platform"],
): Pick<ImagePlatform, "os" | "architecture" | "variant">[] {
  if (platform !== undefined) {
    const { os, architecture, variant } = platform;
    return [{ os, architecture, variant }];
  }
  return platformDependent ? [hostPlatform()] : [];
}

/**
 * Initialises the plugins of a process one after the other in the order of their manifests, leaving out the disabled ones.
 *
 * @param definitions - What they do; a plugin that is not among them does nothing of its own.
 * @throws Error when a definition belongs to none of the manifests, which is a bug.
 */
export async function initPlugins(
  manifests: readonly PluginManifest[],
  definitions: readonly PluginDefinition[],
  {
    config,
    log,
    traced = (_plugin, init) => Promise.resolve(init()),
  }: { readonly config: FleetConfig; readonly log: Logger; readonly traced?: TracedInit },
): Promise<InitialisedPlugins> {
  const plugins: Plugin[] = [];
  const services: ServiceBinding[] = [];
  const ready = new Map<string, PluginFacts>();
  const inits = new Map(definitions.map((definition) => [definition.manifest, definition]));
  const stray = definitions.find(({ manifest }) => !manifests.includes(manifest));
  if (stray !== undefined) {
    throw new Error(`${pluginUri(stray.manifest)} is not in the list of this process's plugins`);
  }
  for (const manifest of manifests) {
    const { type } = manifest;
    const uri = pluginUri(manifest);
    if (config.disabledPlugins.includes(uri)) {
      continue;
    }
    log.debug({ id: uri, type }, "loading plugin");
    try {
      const facts = (await traced(uri, () => inits.get(manifest)?.init?.())) ?? {};
      services.push(...(facts.services ?? []));
      ready.set(uri, facts);
      plugins.push(describePlugin(manifest, facts));
    } catch (error) {
      const message = errorMessage(error);
      if (isSkipped(message)) {
        log.info({ id: uri, type, err: message }, "skip loading plugin");
      } else {
        log.warn({ id: uri, type, err: error }, "failed to load plugin");
      }
      const code = codeOf(error instanceof FlotillaError ? error.kind : ErrorKind.Unknown);
      plugins.push(failedPlugin(manifest, { code, message }));
    }
  }
  return {
    plugins,
    services,
    inspect: async (plugin, options) => {
      const facts = ready.get(pluginUri(plugin));
      if (facts?.inspect === undefined) {
        throw failure(ErrorKind.NotImplemented, "plugin does not provided extra information");
      }
      return await facts.inspect(options);
    },
  };
}

/** A plugin that failed tells nothing, not even what its manifest promises. */
function failedPlugin({ type, id, requires = [] }: PluginManifest, initErr: { code: number; message: string }): Plugin {
  return create(PluginSchema, { type, id, requires: [...requires], initErr });
}
