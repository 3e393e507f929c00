import { ErrorKind, FlotillaError, failure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { toByteString } from "#linux/bytes.ts";
import { makeDirectoryAt, removeDirectoryAt, succeed } from "#linux/file.ts";
import { changeModeAt, changeOwnerAt } from "#linux/inode.ts";
import { FileType, findStatusAt, typeOf } from "#linux/stat.ts";
import { openPlace } from "./allowed-roots.ts";
import type { Transformer } from "./transformer.ts";

const prefix = "X-containerd.mkdir.";
const permissionBits = 0o777;

interface WantedDirectory {
  readonly path: string;
  readonly mode: number;
  readonly owner: { readonly user: number; readonly group: number } | undefined;
}

/**
 * Makes the directories that options `X-containerd.mkdir.path=PATH[:MODE[:USER:GROUP]]` name, and takes these options away. A directory
 * that is there must have the mode.
 *
 * @param roots - Directories in which that is allowed.
 * @throws {@link FlotillaError} `invalid_argument` for an option that makes no sense; `not_implemented` for a path that is in no root, or a
 *   directory that is there with another mode.
 * @source containerd v2.3.4 core/mount/manager/mkdir.go
 */
export function makeDirectories(roots: readonly string[]): Transformer {
  return (mount) => {
    const options: string[] = [];
    for (const option of mount.options) {
      if (option.startsWith(prefix)) {
        makeDirectory(parseOption(option), roots);
      } else {
        options.push(option);
      }
    }
    return { ...mount, options };
  };
}

function parseOption(option: string): WantedDirectory {
  const value = /^path=(.*)$/s.exec(option.slice(prefix.length))?.[1];
  const [path = "", mode, user, group, ...more] = value?.split(":") ?? [];
  if (value === undefined || more.length > 0 || (user !== undefined && group === undefined)) {
    throw failure(ErrorKind.InvalidArgument, `invalid mkdir option ${quote(option)}`);
  }
  return {
    path,
    mode: mode === undefined ? 0o700 : parseMode(mode),
    owner:
      user === undefined || group === undefined
        ? undefined
        : { user: parseId(user, "uid"), group: parseId(group, "gid") },
  };
}

function parseMode(text: string): number {
  const mode = /^[0-7]{1,11}$/.test(text) ? Number.parseInt(text, 8) : Number.NaN;
  if (Number.isNaN(mode) || mode > permissionBits) {
    throw new FlotillaError(ErrorKind.Unknown, `invalid mode ${text}`);
  }
  return mode;
}

function parseId(text: string, what: "uid" | "gid"): number {
  const id = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isNaN(id) || id > 0xffff_fffe) {
    throw failure(ErrorKind.InvalidArgument, `invalid ${what} ${quote(text)}`);
  }
  return id;
}

function makeDirectory({ path, mode, owner }: WantedDirectory, roots: readonly string[]): void {
  using place = openPlace(path, roots, "mkdir");
  const name = toByteString(place.name);
  const status = findStatusAt(place.directory, name);
  if (status !== undefined) {
    if (typeOf(status) !== FileType.Directory || (status.mode & permissionBits) !== mode) {
      throw failure(ErrorKind.NotImplemented, "chmod not supported yet for mkdir handler");
    }
    return;
  }
  const context = (): string => `failed to create directory ${quote(path)}`;
  succeed(makeDirectoryAt(place.directory, name, 0o700), context);
  try {
    if (owner !== undefined) {
      succeed(changeOwnerAt(place.directory, name, owner.user, owner.group), context);
    }
    // Not by mkdir: the process's umask must not show.
    succeed(changeModeAt(place.directory, name, mode), context);
  } catch (error) {
    removeDirectoryAt(place.directory, name);
    throw error;
  }
}
