import { readFileSync } from "node:fs";

/**
 * The id of a user of this machine by name, as `/etc/passwd` has it. Users of directories elsewhere are not looked for: those of services
 * are always local.
 *
 * @returns Undefined when there is no such user.
 * @throws The error of `node:fs`.
 * @source passwd(5)
 */
export function userId(name: string): number | undefined {
  return idIn("/etc/passwd", name);
}

/** The id of a group of this machine by name. @returns Undefined when there is no such group. @throws The error of `node:fs`. @source group(5) */
export function groupId(name: string): number | undefined {
  return idIn("/etc/group", name);
}

/** Both files have the name first and the id third. */
function idIn(file: string, name: string): number | undefined {
  for (const line of readFileSync(file, "utf8").split("\n")) {
    const [entry, , id] = line.split(":");
    if (entry === name && id !== undefined && /^\d+$/.test(id)) {
      return Number(id);
    }
  }
  return undefined;
}
