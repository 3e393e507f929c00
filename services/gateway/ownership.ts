import { constants } from "node:fs";
import { mkdir, open } from "node:fs/promises";
import net from "node:net";
import { ErrorKind, failure, systemErrorCode } from "#base/errors.ts";
import { type FleetConfig, pluginRoot } from "#config/config.ts";
import { hasPassedSocket } from "#linux/passed-sockets.ts";
import { flockExclusive } from "#linux/process.ts";

const metadataPlugin = "io.containerd.metadata.v1.bolt";

/**
 * Claims the root directory for this daemon, for as long as the returned claim is open.
 *
 * The claim is the lock that containerd itself takes: flock(2) on its `meta.db`. So a containerd and a Flotilla never share a root,
 * whichever comes second, and the kernel drops the claim of a killed daemon.
 *
 * @throws {@link FlotillaError} `failed_precondition` when a live daemon holds the root.
 * @source go.etcd.io/bbolt bolt_unix.go `flock`
 */
export async function claimRoot(config: FleetConfig): Promise<AsyncDisposable> {
  const directory = pluginRoot(config, metadataPlugin);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const path = `${directory}/meta.db`;
  // The directory may belong to a user with fewer rights, whose links are not followed.
  const { O_APPEND, O_CREAT, O_NOFOLLOW, O_WRONLY } = constants;
  const file = await open(path, O_APPEND | O_CREAT | O_NOFOLLOW | O_WRONLY, 0o644);
  if (!flockExclusive(file.fd)) {
    await file.close();
    throw failure(
      ErrorKind.FailedPrecondition,
      `root ${config.root} belongs to a daemon that is running: ${path} is locked`,
    );
  }
  return { [Symbol.asyncDispose]: () => file.close() };
}

/**
 * Makes sure that no live daemon listens on a socket; a socket that a dead one left behind is no obstacle, and one that
 * the service manager holds for this daemon is its own.
 *
 * @throws {@link FlotillaError} `failed_precondition` when somebody answers.
 */
export async function refuseLiveSocket(address: string): Promise<void> {
  if (hasPassedSocket(address)) {
    return;
  }
  const answered = await new Promise<boolean>((resolve, reject) => {
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
  if (answered) {
    throw failure(ErrorKind.FailedPrecondition, `socket ${address} belongs to a daemon that is running`);
  }
}
