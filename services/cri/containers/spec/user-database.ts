/** A line of a file of users, as far as containers need it. @source passwd(5) */
export interface UserEntry {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/** A line of a file of groups. @source group(5) */
export interface GroupEntry {
  readonly name: string;
  readonly gid: number;
  readonly members: readonly string[];
}

/**
 * Reads a file of users. Lines that are no such lines are read as far as they go; what is no number counts as 0, as containerd has it.
 *
 * @source moby/sys user/user.go `ParsePasswdFilter`
 */
export function parseUsers(text: string): UserEntry[] {
  return linesOf(text).map((line) => {
    const [name = "", , uid = "", gid = ""] = line.split(":");
    return { name, uid: numberOf(uid), gid: numberOf(gid) };
  });
}

/** Reads a file of groups; what follows a `#` at the start of a line is none. @source moby/sys user/user.go `ParseGroupFilter` */
export function parseGroups(text: string): GroupEntry[] {
  return linesOf(text)
    .filter((line) => !line.startsWith("#"))
    .map((line) => {
      const [name = "", , gid = "", members = ""] = line.split(":");
      return { name, gid: numberOf(gid), members: members === "" ? [] : members.split(",") };
    });
}

function linesOf(text: string): string[] {
  return text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");
}

function numberOf(text: string): number {
  const number = /^[+-]?\d{1,18}$/.test(text) ? Number(text) : 0;
  // Of more than 32 bits only these would reach the kernel.
  return number >>> 0;
}
