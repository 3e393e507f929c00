import { chmod, chown, lstat, mkdir } from "node:fs/promises";
import { ErrorKind, failure } from "#base/errors.ts";
import type { FleetConfig } from "#config/config.ts";
import { type ProcessName, stateDirectoryOf } from "#fleet/process-name.ts";
import { rights } from "#fleet/rights.ts";
import type { FleetUsers } from "#fleet/users.ts";

/**
 * Makes the directories that the whole fleet stands on, with containerd's modes, and points temporary files to the configured place. Where processes
 * have users of their own these may pass through the root directory, and see nothing of what lies in it but what they know by name.
 *
 * @throws {@link FlotillaError} `invalid_argument` when root or state are missing or the same.
 * @source containerd v2.3.4 cmd/containerd/server/server.go `CreateTopLevelDirectories`
 */
export async function createDirectories(config: FleetConfig, users: FleetUsers): Promise<void> {
  if (config.root === config.state) {
    throw failure(ErrorKind.InvalidArgument, "root and state must be different paths");
  }
  await mkdir(config.root, { recursive: true, mode: 0o700 });
  if (users.gid !== undefined) {
    await chown(config.root, -1, users.gid);
  }
  await chmod(config.root, users.gid === undefined ? 0o700 : 0o710);
  await mkdir(config.state, { recursive: true, mode: 0o711 });
  if (config.temp !== "") {
    await mkdir(config.temp, { recursive: true, mode: 0o700 });
    await chmod(config.temp, 0o700);
    process.env["TMPDIR"] = config.temp;
  }
}

/**
 * Makes the directories of a process and sees to it that they are its user's, those included in which another user has written before. To be called while the
 * process does not run.
 *
 * When all processes run as one user, only what has been another's is taken back: the rest each process makes itself.
 *
 * @throws {@link FlotillaError} for what the system refuses.
 */
export async function prepareDirectories(config: FleetConfig, name: ProcessName, users: FleetUsers): Promise<void> {
  const { user, writes, shares = [] } = rights[name];
  const state = stateDirectoryOf(config.state, name);
  await mkdir(state, { recursive: true, mode: 0o710 });
  await give(state, name, users);
  // What root writes has files of many owners in it, which are nobody else's business.
  for (const directory of user === "root" ? [] : writes) {
    const path = directory.replace(/^<root>/, config.root);
    if (users.areSeparate) {
      await mkdir(path, { recursive: true, mode: shares.includes(directory) ? 0o710 : 0o700 });
    }
    await give(path, name, users);
  }
}

/** Hands a directory over to the user of a process. What it takes to do so is loaded only when it may have to be done. */
async function give(path: string, name: ProcessName, users: FleetUsers): Promise<void> {
  const uid = users.uidOf(name);
  if (!users.areSeparate) {
    const found = await lstat(path).catch(() => undefined);
    if (found === undefined || found.uid === uid || uid !== 0) {
      return;
    }
  }
  const { handOver } = await import("#linux/handover.ts");
  handOver(path, { uid, gid: users.gid ?? process.getegid?.() ?? 0 });
}
