import { randomBytes } from "node:crypto";
import net from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { readFileIfThere, replaceFile } from "#base/durable-file.ts";
import { ErrorKind, failure, systemErrorCode } from "#base/errors.ts";
import { makeUserSeed } from "./user-keys.ts";

/** Where the child listens: this machine's processes alone reach it. */
export const loopback = "127.0.0.1";
/** Below the ports that Linux gives to outgoing connections, so that none takes ours while the server is down. */
const portMin = 20_000;
const portMax = 32_000;
/** How long a port may be held by a server that is just being killed. */
const portFreeMsMax = 1_000;
const pollMs = 20;

/** What stays the same from start to start, so that the URL that users have noted stays good. */
export interface Identity {
  readonly port: number;
  /** Private key of the fleet's own user, as NATS writes keys. It never leaves this machine's memory and disk. */
  readonly fleetSeed: string;
  /** Private key of the user who may only read. */
  readonly subscriberSeed: string;
  /** For readers that know no keys. */
  readonly subscriberPassword: string;
}

/**
 * Reads port and secrets, or makes them. Another port is taken when somebody else holds ours.
 *
 * @param path - Only its owner may read it.
 * @throws {@link FlotillaError} `failed_precondition` when the file is there and cannot be understood.
 */
export async function readIdentity(path: string): Promise<Identity> {
  const kept = await findIdentity(path);
  if (isComplete(kept) && (await becomesFree(kept.port))) {
    return kept;
  }
  const identity = {
    port: kept.port !== undefined && (await isFree(kept.port)) ? kept.port : await findFreePort(),
    fleetSeed: kept.fleetSeed ?? makeUserSeed(),
    subscriberSeed: kept.subscriberSeed ?? makeUserSeed(),
    subscriberPassword: kept.subscriberPassword ?? randomBytes(24).toString("base64url"),
  };
  await replaceFile(path, `${JSON.stringify(identity)}\n`, { mode: 0o600 });
  return identity;
}

function isComplete(kept: Partial<Identity>): kept is Identity {
  return [kept.port, kept.fleetSeed, kept.subscriberSeed, kept.subscriberPassword].every(
    (value) => value !== undefined,
  );
}

async function findIdentity(path: string): Promise<Partial<Identity>> {
  try {
    return JSON.parse((await readFileIfThere(path)) ?? "{}") as Partial<Identity>;
  } catch (error) {
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
