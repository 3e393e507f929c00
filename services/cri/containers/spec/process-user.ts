import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import type { OciUser } from "./oci-spec.ts";
import type { GroupEntry, UserEntry } from "./user-database.ts";

/** The users and groups that an image's own files name; undefined where it has no such file. */
export interface ImageUsers {
  readonly users: readonly UserEntry[] | undefined;
  readonly groups: readonly GroupEntry[] | undefined;
}

export interface UserWishes {
  /** Name of the user in the container; "" for none. */
  readonly username: string;
  readonly uid: bigint | undefined;
  readonly gid: bigint | undefined;
  /** What the image says, `user[:group]`. */
  readonly imageUser: string;
  readonly supplementalGroups: readonly bigint[];
  /** Whether the groups that the image's files give the user count too. */
  readonly mergesImageGroups: boolean;
}

/** Largest number of a user or group. @source containerd v2.3.4 pkg/oci/spec_opts.go `WithUser`: runc takes no larger ones */
const idMax = 0x7fff_ffffn;
/** What a number of Go's type int may be. */
const goIntMax = 0x7fff_ffff_ffff_ffffn;

/**
 * Who a container's process is.
 *
 * The user is the configuration's, else the image's, else root. A number without a group has the group that the image's files give that number, or 0. Groups are those of
 * the configuration, and the user's group, and those of the image's files where they count.
 *
 * @throws {@link FlotillaError} `unknown`, in containerd's words: a group without a user, a name that the image's files do not have, a number out of range.
 * @source containerd v2.3.4 pkg/oci/spec_opts.go `WithUser`, `WithAdditionalGIDs`; internal/cri/server/container_create_linux.go `containerSpecOpts`
 */
export function processUser(wishes: UserWishes, image: ImageUsers): OciUser {
  const text = userText(wishes) || wishes.imageUser;
  const user = text === "" ? { uid: 0, gid: 0 } : findUser(text, image);
  const own = text === "" ? [] : [user.gid];
  const groups = wishes.mergesImageGroups ? [...own, ...imageGroups(groupUser(wishes), user.gid, image)] : own;
  const additionalGids = sortedNumbers([
    ...groups,
    ...wishes.supplementalGroups.map((gid) => Number(BigInt.asUintN(32, gid))),
  ]);
  return additionalGids.length > 0 ? { ...user, additionalGids } : user;
}

/**
 * The user as the image specification writes it, or "" where the configuration names none.
 *
 * @source containerd v2.3.4 internal/cri/util/util.go `GenerateUserString`
 */
export function userText({ username, uid, gid }: Pick<UserWishes, "username" | "uid" | "gid">): string {
  const user = username === "" ? (uid?.toString() ?? "") : username;
  if (user === "" && gid !== undefined) {
    throw new FlotillaError(
      ErrorKind.Unknown,
      `failed to generate user string: user group ${quote(gid.toString())} is specified without user`,
    );
  }
  return gid === undefined ? user : `${user}:${gid}`;
}

function findUser(text: string, { users, groups }: ImageUsers): { readonly uid: number; readonly gid: number } {
  const [userPart = "", groupPart, ...more] = text.split(":");
  if (more.length > 0) {
    throw new FlotillaError(ErrorKind.Unknown, `invalid USER value ${text}`);
  }
  const uid = parseId(userPart, { text, what: "uid" });
  if (groupPart === undefined) {
    const user = uid === undefined ? userNamed(userPart, users) : users?.find((entry) => entry.uid === uid);
    return { uid: user?.uid ?? uid ?? 0, gid: user?.gid ?? 0 };
  }
  const gid = parseId(groupPart, { text, what: "gid" });
  return {
    uid: uid ?? (userPart === "" ? 0 : userNamed(userPart, users).uid),
    gid: gid ?? (groupPart === "" ? 0 : groupNamed(groupPart, groups)),
  };
}

/** @returns undefined for what is no number, and so a name. */
function parseId(part: string, { text, what }: { readonly text: string; readonly what: string }): number | undefined {
  if (!/^[+-]?\d+$/.test(part)) {
    return undefined;
  }
  const number = BigInt(part.replace("+", ""));
  if (number < 0n || number > idMax || number > goIntMax) {
    throw new FlotillaError(ErrorKind.Unknown, `invalid USER value ${quote(text)}: ${what} out of range`);
  }
  return Number(number);
}

function userNamed(
  name: string,
  users: readonly UserEntry[] | undefined,
): { readonly uid: number; readonly gid: number } {
  const found = required(users, "passwd").find((user) => user.name === name);
  if (found === undefined) {
    throw new FlotillaError(ErrorKind.Unknown, "no users found");
  }
  return found;
}

function groupNamed(name: string, groups: readonly GroupEntry[] | undefined): number {
  const found = required(groups, "group").find((group) => group.name === name);
  if (found === undefined) {
    throw new FlotillaError(ErrorKind.Unknown, "no groups found");
  }
  return found.gid;
}

function required<T>(entries: readonly T[] | undefined, file: string): readonly T[] {
  if (entries === undefined) {
    throw new FlotillaError(ErrorKind.Unknown, `open etc/${file}: no such file or directory`);
  }
  return entries;
}

/** Whose groups count: as {@link processUser} has it, but that a group is never part of it. */
function groupUser({ username, uid, imageUser }: UserWishes): string {
  return username || (uid?.toString() ?? (imageUser.split(":")[0] || "0"));
}

/** The groups that the image's files give a user, and the user's own; none where they do not know the user. */
function imageGroups(user: string, gid: number, { users, groups }: ImageUsers): number[] {
  const isNumber = /^[+-]?\d{1,18}$/.test(user);
  const name = isNumber ? users?.find(({ uid }) => uid === Number(user))?.name : user;
  if (name === undefined) {
    return [gid];
  }
  return [
    gid,
    ...(groups ?? []).filter((group) => group.name !== name && group.members.includes(name)).map((group) => group.gid),
  ];
}

function sortedNumbers(numbers: readonly number[]): number[] {
  return [...new Set(numbers)].sort((one, other) => one - other);
}
