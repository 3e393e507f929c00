import { stat } from "node:fs/promises";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { ErrorKind, errorMessage, failure } from "#base/errors.ts";
import { type FleetConfig } from "#config/config.ts";
import { pluginTable } from "#config/defaults.ts";
import { pluginUri } from "#config/manifest.ts";
import { programUrl } from "#fleet/program.ts";
import {
  accountNames,
  accountsOfMachine,
  type FleetUsers,
  oneUser,
  readUsers,
  separateUsers,
  usersVariable,
} from "#fleet/users.ts";
import { supervisorPlugin } from "./plugins.ts";

/** As whom the fleet runs, and why not otherwise. */
export interface ChosenUsers {
  readonly users: FleetUsers;
  /** Why all processes run as one although nobody has asked for it; undefined when that is not so. */
  readonly reason: string | undefined;
}

/**
 * Chooses as whom the processes run, by the configuration and by what the machine has: each as a user of its own where that is possible.
 *
 * @throws {@link FlotillaError} `invalid_argument` for settings that make no sense; `failed_precondition` when users of their own are asked for and
 * cannot be had.
 */
export async function chooseUsers(config: FleetConfig): Promise<ChosenUsers> {
  if ((process.env[usersVariable] ?? "") !== "") {
    // Who starts all processes has decided.
    return { users: readUsers(), reason: undefined };
  }
  const settings = pluginTable(config, pluginUri(supervisorPlugin));
  const wanted = settings.choice("users", ["auto", "own", "one"]);
  if (wanted === "one") {
    return { users: oneUser, reason: undefined };
  }
  try {
    return { users: await ownUsers(config), reason: undefined };
  } catch (error) {
    if (wanted === "own") {
      throw failure(ErrorKind.FailedPrecondition, `processes cannot have users of their own: ${errorMessage(error)}`);
    }
    return { users: oneUser, reason: errorMessage(error) };
  }
}

async function ownUsers(config: FleetConfig): Promise<FleetUsers> {
  if (process.geteuid?.() !== 0) {
    throw new Error("only root may start processes of other users");
  }
  const ids = accountsOfMachine();
  const settings = pluginTable(config, pluginUri(supervisorPlugin));
  const given = settings.has("user_ids") ? settings.table("user_ids") : undefined;
  for (const name of given?.keys() ?? []) {
    if (!accountNames().includes(name)) {
      throw new Error(`no process runs as ${name}, which user_ids names`);
    }
    ids.set(name, given?.integer(name) ?? 0);
  }
  const missing = accountNames().filter((name) => !ids.has(name));
  if (missing.length > 0) {
    throw new Error(`there is no ${missing.join(", ")} on this machine`);
  }
  const users = separateUsers(ids);
  const reader = { uid: users.uidOf("content"), gid: users.gid ?? 0 };
  const files = [process.execPath, fileURLToPath(programUrl("services/content/main.ts"))];
  for (const path of [...files, ...config.sources.map(({ file }) => file)]) {
    await checkReadable(path, reader);
  }
  for (const directory of [config.root, config.state]) {
    await checkPassable(dirname(directory), reader);
  }
  return users;
}

interface Reader {
  readonly uid: number;
  readonly gid: number;
}

const readBit = 4;
const passBit = 1;

/** Checks that a user can read a file. @throws Error that says what hinders. */
async function checkReadable(path: string, reader: Reader): Promise<void> {
  await checkAccess(path, reader, readBit);
  await checkPassable(dirname(path), reader);
}

/** Checks that a user may pass through a directory and those above it. One that is not there yet is made passable. */
async function checkPassable(path: string, reader: Reader): Promise<void> {
  for (let above = path; ; above = dirname(above)) {
    await checkAccess(above, reader, passBit);
    if (above === dirname(above)) {
      return;
    }
  }
}

/** By the permission bits alone: the users are in no group but one, and have no capabilities. */
async function checkAccess(path: string, { uid, gid }: Reader, bit: number): Promise<void> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) {
    return;
  }
  const shift = found.uid === uid ? 6 : found.gid === gid ? 3 : 0;
  if (((found.mode >> shift) & bit) === 0) {
    throw new Error(`${path} is not open to users other than root`);
  }
}
