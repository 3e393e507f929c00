import { randomBytes } from "node:crypto";
import { mkdir, readFile, rm } from "node:fs/promises";
import net from "node:net";
import { hostname } from "node:os";
import { setTimeout as delay } from "node:timers/promises";
import { replaceFile } from "#base/durable-file.ts";
import { ErrorKind, failure, systemErrorCode } from "#base/errors.ts";
import { type FleetConfig, pluginRoot } from "#config/config.ts";
import { pluginTable } from "#config/defaults.ts";
import type { Member } from "./supervisor.ts";

const natsPlugin = "io.flotilla.events.v1.nats";
const loopback = "127.0.0.1";
/** Below the ports that Linux gives to outgoing connections, so that none takes ours while the server is down. */
const portMin = 20_000;
const portMax = 32_000;
/** How long a port may be held by a server that is just being killed. */
const portFreeMsMax = 1_000;
const readyMsMax = 10_000;
const pollMs = 20;
/** How long a server that takes a connection may be silent. */
const greetingMsMax = 1_000;
/** Largest message: an event of 4 MiB and its headers. @see services/events/bus/cloud-event.ts */
const messageBytesMax = 8 * 1024 * 1024;
const memoryStoreBytesMax = 16 * 1024 * 1024;
/** What JetStream may take on disk besides the stream's own bound. */
const spareStoreBytes = 64 * 1024 * 1024;
const connectionsMax = 128;
/** What the server's garbage collector aims at. */
const heapBytesMax = 96 * 1024 * 1024;

/** What stays the same from start to start, so that the URL that users have noted stays good. */
interface Identity {
  readonly port: number;
  readonly fleetPassword: string;
  readonly subscriberPassword: string;
}

/**
 * Prepares the NATS server that carries the events, unless the configuration names one elsewhere.
 *
 * It listens on loopback only. There are two users: the fleet's own, and `subscriber`, who may read events and nothing else. Both
 * passwords are made at the first start and are kept in `<root>/io.flotilla.events.v1.nats/server.json`; `<state>/nats.json`
 * says to the events process, and `<root>/io.flotilla.events.v1.nats/subscriber.url` to people, where the server is. Only root may read these
 * files.
 *
 * @returns undefined when the server is not ours to run.
 */
export async function natsServerMember(config: FleetConfig): Promise<Member | undefined> {
  const settings = pluginTable(config, natsPlugin);
  if (settings.string("url") !== "") {
    return undefined;
  }
  const root = pluginRoot(config, natsPlugin);
  const stream = settings.string("stream");
  await mkdir(root, { recursive: true, mode: 0o700 });
  await mkdir(config.state, { recursive: true, mode: 0o711 });
  const identity = await readIdentity(`${root}/server.json`);
  const configFile = `${config.state}/nats-server.conf`;
  const logFile = `${config.state}/nats-server.log`;
  const url = `nats://${loopback}:${identity.port}`;
  await rm(logFile, { force: true });
  await replaceOwnFile(
    configFile,
    serverConfig({
      identity,
      root,
      logFile,
      stream,
      storeBytesMax: settings.integer("retention_bytes") + spareStoreBytes,
    }),
  );
  await replaceOwnFile(
    `${root}/subscriber.url`,
    `nats://subscriber:${identity.subscriberPassword}@${loopback}:${identity.port}\n`,
  );
  await replaceOwnFile(
    `${config.state}/nats.json`,
    `${JSON.stringify({
      url,
      user: "fleet",
      password: identity.fleetPassword,
      subscriber: { user: "subscriber", password: identity.subscriberPassword },
    })}\n`,
  );
  return {
    name: "nats-server",
    command: "nats-server",
    args: ["--config", configFile],
    env: { GOMEMLIMIT: `${heapBytesMax}`, GOGC: "50" },
    awaitReady: (signal) => awaitPort(identity.port, signal),
  };
}

interface ServerConfigFacts {
  readonly identity: Identity;
  readonly root: string;
  readonly logFile: string;
  readonly stream: string;
  readonly storeBytesMax: number;
}

/** @source NATS docs, "Server configuration"; nats-server v2.9.10 server/opts.go */
function serverConfig({ identity, root, logFile, stream, storeBytesMax }: ServerConfigFacts): string {
  const api = [
    "INFO",
    `STREAM.INFO.${stream}`,
    `STREAM.MSG.GET.${stream}`,
    `DIRECT.GET.${stream}`,
    `DIRECT.GET.${stream}.>`,
  ];
  const config = {
    host: loopback,
    port: identity.port,
    server_name: `flotilla-${hostname()}`,
    log_file: logFile,
    logfile_size_limit: 8 * 1024 * 1024,
    max_payload: messageBytesMax,
    max_connections: connectionsMax,
    jetstream: { store_dir: root, max_memory_store: memoryStoreBytesMax, max_file_store: storeBytesMax },
    accounts: {
      FLEET: {
        jetstream: "enabled",
        users: [
          { user: "fleet", password: identity.fleetPassword },
          {
            user: "subscriber",
            password: identity.subscriberPassword,
            permissions: {
              publish: { allow: api.map((call) => `$JS.API.${call}`) },
              subscribe: { allow: [`${stream}.>`, "_INBOX.>"] },
            },
          },
        ],
      },
    },
  };
  return `${JSON.stringify(config, undefined, 2)}\n`;
}

/** Reads port and passwords, or makes them. Another port is taken when somebody else holds ours. */
async function readIdentity(path: string): Promise<Identity> {
  const kept = await findIdentity(path);
  if (kept !== undefined && (await becomesFree(kept.port))) {
    return kept;
  }
  const identity = {
    port: await findFreePort(),
    fleetPassword: kept?.fleetPassword ?? randomBytes(24).toString("base64url"),
    subscriberPassword: kept?.subscriberPassword ?? randomBytes(24).toString("base64url"),
  };
  await replaceOwnFile(path, `${JSON.stringify(identity)}\n`);
  return identity;
}

async function findIdentity(path: string): Promise<Identity | undefined> {
  try {
    return JSON.parse(await readFile(path, "utf8")) as Identity;
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") {
      return undefined;
    }
    throw failure(ErrorKind.FailedPrecondition, `${path} cannot be read`, { cause: error });
  }
}

async function findFreePort(): Promise<number> {
  for (;;) {
    const port = portMin + (randomBytes(4).readUInt32BE() % (portMax - portMin));
    if (await isFree(port)) {
      return port;
    }
  }
}

async function becomesFree(port: number): Promise<boolean> {
  for (const deadline = performance.now() + portFreeMsMax; performance.now() < deadline; await delay(pollMs)) {
    if (await isFree(port)) {
      return true;
    }
  }
  return false;
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const probe = net.createServer();
    probe.once("error", (error) => (systemErrorCode(error) === "EADDRINUSE" ? resolve(false) : reject(error)));
    probe.listen(port, loopback, () => probe.close(() => resolve(true)));
  });
}

async function awaitPort(port: number, signal: AbortSignal): Promise<void> {
  for (
    const deadline = performance.now() + readyMsMax;
    performance.now() < deadline;
    await delay(pollMs, undefined, { signal })
  ) {
    if (await greets(port)) {
      return;
    }
  }
  throw failure(ErrorKind.Unavailable, `nats-server does not answer on ${loopback}:${port}`);
}

/** Whether somebody on a port says hello as a NATS server does. */
function greets(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(port, loopback);
    const end = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.once("data", (data) => end(data.toString("latin1").startsWith("INFO ")));
    socket.setTimeout(greetingMsMax, () => end(false));
    socket.once("error", () => end(false));
    socket.once("close", () => end(false));
  });
}

/** Replaces a file that only its owner may read. */
function replaceOwnFile(path: string, text: string): Promise<void> {
  return replaceFile(path, text, { mode: 0o600 });
}
