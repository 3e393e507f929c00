import { asByteString, type ByteString, toByteString } from "./bytes.ts";
import { closeFile, OpenFlag, openAt, openResolved, Resolve, succeed, workingDirectory } from "./file.ts";
import { Errno } from "./libc.ts";
import { findStatusAt } from "./stat.ts";

const itself = asByteString("");
const above = asByteString("..");
const directoryFlags = OpenFlag.ReadOnly | OpenFlag.Directory;

/** How many of the innermost directories stay open; a tree may be deeper than a process has descriptors. */
const openMax = 64;

interface Level {
  descriptor: number | undefined;
  /** Device and inode, by which it is known again. */
  readonly identity: string;
}

/**
 * The way from the root of a tree down to one of its directories, for walks through trees that somebody may change meanwhile.
 *
 * Each step is taken by name from the open directory above and never over a symbolic link or onto another mount, so that the walk
 * stays in the tree. Steps back go to the very directory that was come from, or are refused.
 */
export class DirectoryPath implements Disposable {
  readonly #levels: Level[] = [];

  /** @throws {@link SystemError} when the root is no directory that can be opened. */
  constructor(root: string) {
    const descriptor = succeed(openAt(workingDirectory, toByteString(root), directoryFlags), () => `open ${root}`);
    this.#levels.push({ descriptor, identity: identityOf(descriptor) });
  }

  /** The innermost directory. Good until the next step. */
  get descriptor(): number {
    const descriptor = this.#levels.at(-1)?.descriptor;
    if (descriptor === undefined) {
      throw new TypeError("the walk has ended");
    }
    return descriptor;
  }

  /**
   * Steps into a directory.
   *
   * @returns False, without having moved, when there is no directory of that name any more, or something is mounted on it.
   * @throws {@link SystemError} for all other failures.
   */
  enter(name: ByteString): boolean {
    const descriptor = openResolved(
      this.descriptor,
      name,
      directoryFlags | OpenFlag.NoFollow,
      Resolve.NoSymlinks | Resolve.NoCrossing,
    );
    if (gone.includes(-descriptor)) {
      return false;
    }
    succeed(descriptor, () => `open ${name}`);
    this.#levels.push({ descriptor, identity: identityOf(descriptor) });
    const outer = this.#levels.at(-1 - openMax);
    if (outer?.descriptor !== undefined) {
      closeFile(outer.descriptor);
      outer.descriptor = undefined;
    }
    return true;
  }

  /**
   * Steps back to the directory above.
   *
   * @returns False when there is none, or when it was moved away meanwhile so that it cannot be found: the walk has ended then.
   */
  leave(): boolean {
    const left = this.#levels.pop();
    const outer = this.#levels.at(-1);
    if (left?.descriptor === undefined || outer === undefined) {
      this.#closeAll(left);
      return false;
    }
    if (outer.descriptor === undefined) {
      const descriptor = openAt(left.descriptor, above, directoryFlags);
      if (descriptor < 0 || identityOf(descriptor) !== outer.identity) {
        this.#closeAll(left, { descriptor: descriptor < 0 ? undefined : descriptor });
        return false;
      }
      outer.descriptor = descriptor;
    }
    closeFile(left.descriptor);
    return true;
  }

  [Symbol.dispose](): void {
    this.#closeAll();
  }

  #closeAll(...more: readonly (Pick<Level, "descriptor"> | undefined)[]): void {
    for (const level of [...this.#levels.splice(0), ...more]) {
      if (level?.descriptor !== undefined) {
        closeFile(level.descriptor);
      }
    }
  }
}

/** What opening a directory answers when it has become something else, or is another mount. */
const gone: readonly number[] = [Errno.NoEntry, Errno.NotDirectory, Errno.Loop, Errno.CrossDevice];

function identityOf(descriptor: number): string {
  const status = findStatusAt(descriptor, itself);
  return `${status?.deviceMajor}:${status?.deviceMinor}:${status?.inode}`;
}
