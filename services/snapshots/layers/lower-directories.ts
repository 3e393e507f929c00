import { asByteString, type ByteString, fromByteString } from "#linux/bytes.ts";
import { closeFile, OpenFlag, openAt, openResolved, Resolve, succeed, workingDirectory } from "#linux/file.ts";
import { changeMode, changeOwner, setTimes } from "#linux/inode.ts";
import { Errno } from "#linux/libc.ts";
import { type FileStatus, FileType, findStatusAt, typeOf } from "#linux/stat.ts";
import { findAttributeAt, listAttributesAt, setAttributeAt } from "#linux/xattr.ts";

const itself = asByteString("");

/** The trees below an upper directory, as models for directories that are missing in it. */
export class LowerDirectories {
  readonly #paths: readonly ByteString[];
  readonly #opened: number[] = [];

  /** @param paths - Topmost first. They are opened when first needed. */
  constructor(paths: readonly ByteString[]) {
    this.#paths = paths;
  }

  /**
   * Copies owner, mode, times and attributes of the topmost lower directory of the same path to an open one.
   *
   * @returns The status of the model, undefined when no lower tree has it or something else hides it.
   * @source containerd v2.3.4 pkg/archive/tar.go `mkparent`, tar_unix.go `copyDirInfo`, `copyUpXAttrs`
   */
  copyAttributes(path: ByteString, target: number): FileStatus | undefined {
    for (const lower of this.#paths.slice(this.#opened.length)) {
      const opened = openAt(workingDirectory, lower, OpenFlag.Path | OpenFlag.Directory);
      this.#opened.push(succeed(opened, () => `open ${fromByteString(lower)}`));
    }
    for (const lower of this.#opened) {
      const found = openResolved(lower, path, OpenFlag.Path, Resolve.InRoot);
      if (found === -Errno.NotDirectory) {
        return undefined;
      }
      if (found !== -Errno.NoEntry) {
        succeed(found, () => `open ${fromByteString(path)}`);
        try {
          return copyDirectoryAttributes(found, target);
        } finally {
          closeFile(found);
        }
      }
    }
    return undefined;
  }

  /** Closes everything. */
  close(): void {
    for (const descriptor of this.#opened) {
      closeFile(descriptor);
    }
  }
}

function copyDirectoryAttributes(model: number, target: number): FileStatus | undefined {
  const status = findStatusAt(model, itself);
  if (status === undefined || typeOf(status) !== FileType.Directory) {
    return undefined;
  }
  succeed(changeOwner(target, status.user, status.group), () => "failed to chown directory");
  succeed(changeMode(target, status.mode & 0o7777), () => "failed to chmod directory");
  for (const key of listAttributesAt(model, itself)) {
    const value = key.startsWith("trusted.") ? undefined : findAttributeAt(model, itself, key);
    if (value !== undefined) {
      const result = setAttributeAt(target, itself, key, value, { create: true });
      if (result !== -Errno.NotSupported && result !== -Errno.NoData && result !== -Errno.Exists) {
        succeed(result, () => `failed to set xattr ${key}`);
      }
    }
  }
  succeed(setTimes(target, status.accessed, status.modified), () => "failed to utime directory");
  return status;
}
