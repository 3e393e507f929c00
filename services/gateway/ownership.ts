import { constants } from "node:fs";
import { mkdir, open } from "node:fs/promises";
import net from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { ErrorKind, failure, systemErrorCode } from "#base/errors.ts";
import { type FleetConfig, pluginRoot, timeoutMs } from "#config/config.ts";
import { hasPassedSocket } from "#linux/passed-sockets.ts";
import { flockExclusive } from "#linux/process.ts";

const metadataPlugin = "io.containerd.metadata.v1.bolt";

/** How long a root is waited for where nothing is set: a daemon that stops is ended by force before. containerd would wait for ever. */
const claimMsMax = 90_000;
/** How long a socket is waited for: a daemon that stops closes it first of all. */
const socketMsMax = 2_000;
/** @source go.etcd.io/bbolt db.go `flockRetryTimeout` */
const retryMs = 50;

/** Who waits for what a daemon before this one still has. */
export interface Successor {
  readonly log: { warn(fields: object, message: string): void };
  /** Ends the wait. */
  readonly signal: AbortSignal;
}

/**
 * Claims the root directory for this daemon, for as long as the returned claim is open. A daemon that has it may be about to stop, and is waited for,
 * as long as `io.containerd.timeout.bolt.open` says.
 *
 * The claim is the lock that containerd itself takes: flock(2) on its `meta.db`. So a containerd and a Flotilla never share a root,
 * whichever comes second, and the kernel drops the claim of a killed daemon.
 *
 * @throws {@link FlotillaError} `failed_precondition` when a live daemon keeps the root.
 * @source go.etcd.io/bbolt bolt_unix.go `flock`; containerd v2.3.4 plugins/metadata/plugin.go
 */
export async function claimRoot(config: FleetConfig, { log, signal }: Successor): Promise<AsyncDisposable> {
  const directory = pluginRoot(config, metadataPlugin);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const path = `${directory}/meta.db`;
  // The directory may belong to a user with fewer rights, whose links are not followed.
  const { O_APPEND, O_CREAT, O_NOFOLLOW, O_WRONLY } = constants;
  const file = await open(path, O_APPEND | O_CREAT | O_NOFOLLOW | O_WRONLY, 0o644);
  try {
    const waitMs = timeoutMs(config, "io.containerd.timeout.bolt.open") || claimMsMax;
    const isClaimed = await eventually(
      () => flockExclusive(file.fd),
      waitMs,
      signal,
      () => log.warn({ path, waitMs }, "waiting for the daemon that has this root to stop"),
    );
    if (!isClaimed) {
      throw failure(
        ErrorKind.FailedPrecondition,
        `root ${config.root} belongs to a daemon that is running: ${path} is locked`,
      );
    }
  } catch (error) {
    await file.close();
    throw error;
  }
  return { [Symbol.asyncDispose]: () => file.close() };
}

/**
 * Makes sure that no live daemon listens on a socket; a socket that a dead one left behind is no obstacle, and one that
 * the service manager holds for this daemon is its own. A daemon that is about to stop is waited for.
 *
 * @throws {@link FlotillaError} `failed_precondition` when somebody goes on answering.
 */
export async function refuseLiveSocket(address: string, { log, signal }: Successor): Promise<void> {
  if (hasPassedSocket(address)) {
    return;
  }
  const isFree = async (): Promise<boolean> => !(await isAnswered(address));
  const onWait = (): void => log.warn({ address, waitMs: socketMsMax }, "waiting for the daemon that has this socket");
  if (!(await eventually(isFree, socketMsMax, signal, onWait))) {
    throw failure(ErrorKind.FailedPrecondition, `socket ${address} belongs to a daemon that is running`);
  }
}

function isAnswered(address: string): Promise<boolean> {
  return new Promise<boolean>((resolve, reject) => {
    const probe = net.connect(address);
    probe.once("connect", () => {
      probe.destroy();
      resolve(true);
    });
    probe.once("error", (error) => {
      if (["ENOENT", "ECONNREFUSED"].includes(systemErrorCode(error) ?? "")) {
        resolve(false);
      } else {
        reject(error);
      }
    });
  });
}

/**
 * Tries until something holds.
 *
 * @param onWait - Called once, when it does not hold at first.
 * @returns Whether it came to hold in time.
 */
async function eventually(
  holds: () => boolean | Promise<boolean>,
  waitMs: number,
  signal: AbortSignal,
  onWait: () => void,
): Promise<boolean> {
  const deadlineMs = performance.now() + waitMs;
  for (let tries = 0; ; tries += 1) {
    if (await holds()) {
      return true;
    }
    if (performance.now() >= deadlineMs) {
      return false;
    }
    if (tries === 0) {
      onWait();
    }
    await delay(retryMs, undefined, { signal });
  }
}
