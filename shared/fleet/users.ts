import { ErrorKind, failure } from "#base/errors.ts";
import { groupId, userId } from "#linux/accounts.ts";
import type { ProcessName } from "./process-name.ts";
import { rights } from "./rights.ts";

/** Tells a process of the fleet as whom the others run. */
export const usersVariable = "FLOTILLA_USERS";
/** The value by which a service manager that starts processes says that the users are those of the machine with these names. */
const byName = "by-name";

/** The group of all processes: who is in it may come near the sockets between them, and may pass through the root directory. */
export const fleetGroup = "flotilla";

/** As whom the processes of the fleet run. */
export interface FleetUsers {
  /** Whether each process has the user that `rights.ts` names. Otherwise all run as one. */
  readonly areSeparate: boolean;
  /** The id of a process's user. */
  uidOf(process: ProcessName): number;
  /** The id of {@link fleetGroup}; undefined when all run as one. */
  readonly gid: number | undefined;
}

/**
 * All processes run as the user of this one: a user id tells the fleet from everybody else, and not one process from another.
 */
export const oneUser: FleetUsers = { areSeparate: false, uidOf: () => process.geteuid?.() ?? 0, gid: undefined };

/** The names of the users and of the group, as `rights.ts` has them, root left out. */
export function accountNames(): string[] {
  const users = Object.values(rights).map(({ user }) => user);
  return [fleetGroup, ...new Set(users.filter((user) => user !== "root"))];
}

/**
 * Every process runs as the user of its rights.
 *
 * @param ids - The id of each of {@link accountNames}.
 * @throws {@link FlotillaError} `invalid_argument` when one is missing.
 */
export function separateUsers(ids: ReadonlyMap<string, number>): FleetUsers {
  const idOf = (name: string): number => {
    const id = name === "root" ? 0 : ids.get(name);
    if (id === undefined) {
      throw failure(ErrorKind.InvalidArgument, `there is no id of ${name}`);
    }
    return id;
  };
  for (const name of accountNames()) {
    idOf(name);
  }
  return { areSeparate: true, uidOf: (name) => idOf(rights[name].user), gid: idOf(fleetGroup) };
}

/** The ids that the machine has for the users and the group, as far as they exist. @throws The error of `node:fs`. */
export function accountsOfMachine(): Map<string, number> {
  const ids = new Map<string, number>();
  for (const name of accountNames()) {
    const id = name === fleetGroup ? groupId(name) : userId(name);
    if (id !== undefined) {
      ids.set(name, id);
    }
  }
  return ids;
}

/** What {@link readUsers} of another process takes: the value of {@link usersVariable}. */
export function formatUsers(users: FleetUsers): string {
  if (!users.areSeparate) {
    return "";
  }
  const names = Object.entries(rights).filter(([, { user }]) => user !== "root");
  const ids = names.map(([name, { user }]) => `${user}=${users.uidOf(name as ProcessName)}`);
  return [`${fleetGroup}=${users.gid}`, ...new Set(ids)].join(",");
}

/**
 * As whom the fleet runs by the environment, where whoever started this process has put it. Without a word all run as one.
 *
 * @throws {@link FlotillaError} `invalid_argument` when users are missing.
 */
export function readUsers(value = process.env[usersVariable] ?? ""): FleetUsers {
  if (value === "") {
    return oneUser;
  }
  if (value === byName) {
    return separateUsers(accountsOfMachine());
  }
  const ids = new Map<string, number>();
  for (const entry of value.split(",")) {
    const [name = "", id = ""] = entry.split("=");
    if (/^\d{1,10}$/.test(id)) {
      ids.set(name, Number(id));
    }
  }
  return separateUsers(ids);
}
