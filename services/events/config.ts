import { ErrorKind, failure } from "#base/errors.ts";
import { type FleetConfig, pluginRoot } from "#config/config.ts";
import { pluginTable } from "#config/defaults.ts";
import { pluginUri } from "#config/manifest.ts";
import type { StreamSettings } from "./bus/stream.ts";
import { natsPlugin } from "./plugins.ts";

const plugin = pluginUri(natsPlugin);

/** @source nats-server v2.9.10 server/stream.go `StreamDefaultDuplicatesWindow` */
const duplicateWindowMs = 120_000;

export interface EventsConfig {
  readonly stream: StreamSettings;
  /** A server of somebody else's; undefined when the server is a child of the daemon. */
  readonly external: ExternalServer | undefined;
  /** Directory of what the plugin keeps. */
  readonly root: string;
}

export interface ExternalServer {
  readonly url: string;
  readonly credentialsFile?: string;
  readonly authorityFile?: string;
}

/** @throws {@link FlotillaError} `invalid_argument` that names the setting. */
export function readEventsConfig(config: FleetConfig): EventsConfig {
  const table = pluginTable(config, plugin);
  const name = table.string("stream");
  if (!/^[\w-]{1,64}$/.test(name)) {
    throw failure(ErrorKind.InvalidArgument, `${plugin}: stream "${name}" must be letters, digits, "_" and "-"`);
  }
  const url = table.string("url");
  const credentialsFile = table.string("credentials_file");
  const authorityFile = table.string("ca_file");
  return {
    stream: {
      name,
      retentionAgeMs: table.durationMs("retention_age"),
      retentionBytes: table.integer("retention_bytes"),
      replicas: table.integer("replicas"),
      duplicateWindowMs,
    },
    external:
      url === ""
        ? undefined
        : {
            url,
            ...(credentialsFile === "" ? {} : { credentialsFile }),
            ...(authorityFile === "" ? {} : { authorityFile }),
          },
    root: pluginRoot(config, plugin),
  };
}
