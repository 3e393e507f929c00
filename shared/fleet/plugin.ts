import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { ErrorKind, errorMessage, FlotillaError } from "#base/errors.ts";
import type { FleetConfig } from "#config/config.ts";
import { hostPlatform } from "#config/host-platform.ts";
import { type Plugin, PluginSchema } from "#gen/containerd/services/introspection/v1/introspection_pb.ts";
import { codeOf } from "#wire/errors.ts";
import type { ServiceBinding } from "#wire/handler.ts";
import type { Logger } from "./log.ts";

/**
 * A part of a process that containerd's users know by type and id, and that may fail or be skipped by
 * itself.
 */
export interface PluginDefinition {
  /** For example `io.containerd.snapshotter.v1`. */
  readonly type: string;
  /** For example `overlayfs`. */
  readonly id: string;
  /** Types of plugins that it needs, as containerd registers them; for introspection and the order of the graph. */
  readonly requires?: readonly string[];
  /**
   * Makes the plugin ready. Throwing marks it as failed, and {@link skipPlugin} as skipped; the others go on.
   */
  init?(): Promise<PluginFacts | undefined> | PluginFacts | undefined;
}

/** What a plugin tells of itself once it is ready. */
export interface PluginFacts {
  readonly exports?: Readonly<Record<string, string>>;
  readonly capabilities?: readonly string[];
  /** Whether the plugin depends on the host's platform, which is then shown. */
  readonly platformDependent?: boolean;
  readonly services?: readonly ServiceBinding[];
}

const skipSuffix = "skip plugin";

/** The error by which a plugin says that it does not fit this machine. @source containerd/plugin v1.0 plugin.go `ErrSkipPlugin` */
export function skipPlugin(reason: string): FlotillaError {
  return new FlotillaError(ErrorKind.Unknown, `${reason}: ${skipSuffix}`);
}

/** Tells whether an init error is a {@link skipPlugin}. */
function isSkipped(message: string): boolean {
  return message === skipSuffix || message.endsWith(`: ${skipSuffix}`);
}

export interface InitialisedPlugins {
  /** In the order of initialisation, as Introspection shows them. */
  readonly plugins: readonly Plugin[];
  /** What the plugins that succeeded serve. */
  readonly services: readonly ServiceBinding[];
}

/** Initialises plugins one after the other, leaving out the disabled ones. */
export async function initPlugins(
  definitions: readonly PluginDefinition[],
  { config, log }: { readonly config: FleetConfig; readonly log: Logger },
): Promise<InitialisedPlugins> {
  const plugins: Plugin[] = [];
  const services: ServiceBinding[] = [];
  for (const definition of definitions) {
    const uri = `${definition.type}.${definition.id}`;
    if (config.disabledPlugins.includes(uri)) {
      continue;
    }
    const described = { type: definition.type, id: definition.id, requires: [...(definition.requires ?? [])] };
    log.debug({ id: uri, type: definition.type }, "loading plugin");
    try {
      const facts = (await definition.init?.()) ?? {};
      services.push(...(facts.services ?? []));
      plugins.push(create(PluginSchema, { ...described, ...shownFacts(facts) }));
    } catch (error) {
      const message = errorMessage(error);
      if (isSkipped(message)) {
        log.info({ id: uri, type: definition.type, err: message }, "skip loading plugin");
      } else {
        log.warn({ id: uri, type: definition.type, err: error }, "failed to load plugin");
      }
      const code = codeOf(error instanceof FlotillaError ? error.kind : ErrorKind.Unknown);
      plugins.push(create(PluginSchema, { ...described, initErr: { code, message } }));
    }
  }
  return { plugins, services };
}

function shownFacts(facts: PluginFacts): MessageInitShape<typeof PluginSchema> {
  return {
    exports: { ...facts.exports },
    capabilities: [...(facts.capabilities ?? [])],
    platforms: facts.platformDependent === true ? [hostPlatform()] : [],
  };
}
