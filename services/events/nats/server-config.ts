import { hostname } from "node:os";
import { type Identity, loopback } from "./identity.ts";
import { publicKeyOf } from "./user-keys.ts";

/** Account of the child server that holds the stream. */
export const childAccount = "FLEET";
/** Largest message: an event of 4 MiB and its headers. @see services/events/bus/cloud-event.ts */
const messageBytesMax = 8 * 1024 * 1024;
const memoryStoreBytesMax = 16 * 1024 * 1024;
/** What JetStream may take on disk besides the stream's own bound. */
const spareStoreBytes = 64 * 1024 * 1024;
const connectionsMax = 128;
/** The server starts a further log file beyond this. */
const logBytesMax = 8 * 1024 * 1024;

export interface ServerConfigFacts {
  readonly identity: Identity;
  /** Directory of what the plugin keeps. */
  readonly root: string;
  readonly logFile: string;
  readonly stream: string;
  readonly retentionBytes: number;
}

/**
 * What a child nats-server is told: it listens on loopback only, the fleet's user proves itself by a key, and whoever has the
 * subscriber's key or password may read events and ask about the stream.
 *
 * @source NATS docs, "Server configuration"; nats-server v2.9.10 server/opts.go
 */
export function serverConfig({ identity, root, logFile, stream, retentionBytes }: ServerConfigFacts): string {
  const api = [
    "INFO",
    `STREAM.INFO.${stream}`,
    `STREAM.MSG.GET.${stream}`,
    `DIRECT.GET.${stream}`,
    `DIRECT.GET.${stream}.>`,
  ];
  const permissions = {
    publish: { allow: api.map((call) => `$JS.API.${call}`) },
    subscribe: { allow: [`${stream}.>`, "_INBOX.>"] },
  };
  const config = {
    host: loopback,
    port: identity.port,
    server_name: `flotilla-${hostname()}`,
    log_file: logFile,
    logfile_size_limit: logBytesMax,
    max_payload: messageBytesMax,
    max_connections: connectionsMax,
    jetstream: {
      store_dir: root,
      max_memory_store: memoryStoreBytesMax,
      max_file_store: retentionBytes + spareStoreBytes,
    },
    accounts: {
      [childAccount]: {
        jetstream: "enabled",
        users: [
          { nkey: publicKeyOf(identity.fleetSeed) },
          { nkey: publicKeyOf(identity.subscriberSeed), permissions },
          { user: "subscriber", password: identity.subscriberPassword, permissions },
        ],
      },
    },
  };
  return `${JSON.stringify(config, undefined, 2)}\n`;
}
