import { readFile, realpath } from "node:fs/promises";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { quote } from "#base/quote.ts";

/** One line of /proc/self/mountinfo. */
export interface MountInfo {
  readonly id: number;
  readonly parentId: number;
  /** `major:minor` of the device. */
  readonly device: string;
  /** Directory of the file system that is the root of this mount. */
  readonly root: string;
  readonly mountPoint: string;
  /** Options of this mount, comma-separated. */
  readonly options: string;
  /** `shared:N`, `master:N`, ... */
  readonly propagation: readonly string[];
  readonly type: string;
  readonly source: string;
  /** Options of the file system, comma-separated. */
  readonly superOptions: string;
}

/**
 * Reads the table of mounts of a process.
 *
 * @param process - A process id, or `self`.
 * @returns Mounts in the order in which they were made; of two on one place the later one is on top.
 */
export async function readMountInfo(process: number | "self" = "self"): Promise<MountInfo[]> {
  return parseMountInfo(await readFile(`/proc/${process}/mountinfo`, "utf8"));
}

/**
 * The mount that a path is on.
 *
 * @param path - Exists.
 * @throws the system's error when it does not.
 */
export async function findMountOf(path: string): Promise<MountInfo> {
  const resolved = await realpath(path);
  const holds = ({ mountPoint }: MountInfo): boolean =>
    mountPoint === "/" || resolved === mountPoint || resolved.startsWith(`${mountPoint}/`);
  const [first, ...others] = (await readMountInfo()).filter(holds);
  if (first === undefined) {
    throw new FlotillaError(ErrorKind.NotFound, `failed to find the mount info for ${quote(path)}`);
  }
  return others.reduce((best, mount) => (mount.mountPoint.length >= best.mountPoint.length ? mount : best), first);
}

/**
 * Parses a table of mounts. Lines that are cut short are left out.
 *
 * @source proc_pid_mountinfo(5)
 */
export function parseMountInfo(text: string): MountInfo[] {
  const mounts: MountInfo[] = [];
  for (const line of text.split("\n")) {
    const fields = line.split(" ");
    const separator = fields.indexOf("-", 6);
    const [id, parentId, device, root, mountPoint, options] = fields;
    const type = fields[separator + 1];
    if (separator !== -1 && mountPoint !== undefined && type !== undefined) {
      mounts.push({
        id: Number(id),
        parentId: Number(parentId),
        device: device ?? "",
        root: unescapeOctal(root ?? ""),
        mountPoint: unescapeOctal(mountPoint),
        options: options ?? "",
        propagation: fields.slice(6, separator),
        type: unescapeOctal(type),
        source: unescapeOctal(fields[separator + 2] ?? ""),
        superOptions: unescapeOctal(fields[separator + 3] ?? ""),
      });
    }
  }
  return mounts;
}

function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
