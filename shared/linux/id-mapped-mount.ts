import { mkdtemp, rmdir } from "node:fs/promises";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { closeFile } from "./file.ts";
import { checked, nativeFunction } from "./libc.ts";

/** Numbers of the calls, the same on every architecture. @source asm-generic/unistd.h */
const callNumber = { openTree: 428, moveMount: 429, mountSetattr: 442 } as const;
const openTreeCall = nativeFunction("long syscall(long number, int directory, const char *path, unsigned int flags)");
const mountSetattrCall = nativeFunction(
  "long syscall(long number, int directory, const char *path, unsigned int flags, const void *attributes, size_t size)",
);
const moveMountCall = nativeFunction(
  "long syscall(long number, int fromDirectory, const char *from, int toDirectory, const char *to, unsigned int flags)",
);

/** @source linux/mount.h, linux/fcntl.h */
const openTreeFlags = 1 | 0x8_0000 | 0x1000 | 0x8000;
const wholeTree = 0x1000 | 0x8000;
const moveEmptyPath = 4;
const attribute = { readOnly: 1n, idMap: 0x10_0000n } as const;
const privatePropagation = 0x4_0000n;
/** Of `struct mount_attr`: set, clear, propagation, user namespace. */
const attributesBytes = 32;

/**
 * Mounts what is at a place once more, with all that is mounted in it and with the ids of a user namespace.
 *
 * @param namespace - Descriptor of the user namespace.
 * @throws {@link SystemError} `EINVAL` where the file system knows no mapped ids.
 * @source containerd v2.3.4 core/mount/mount_idmapped_linux.go `IDMapMountWithAttrs`, mount_setattr(2)
 */
export function mountWithIds(
  source: string,
  target: string,
  { namespace, readOnly }: { readonly namespace: number; readonly readOnly: boolean },
): void {
  using trees = new DisposableStack();
  const tree = trees.adopt(
    checked(openTreeCall(callNumber.openTree, -1, source, openTreeFlags), () => `unable to open tree for ${target}`),
    closeFile,
  );
  const attributes = Buffer.alloc(attributesBytes);
  attributes.writeBigUInt64LE(attribute.idMap | (readOnly ? attribute.readOnly : 0n), 0);
  attributes.writeBigUInt64LE(privatePropagation, 16);
  attributes.writeBigUInt64LE(BigInt(namespace), 24);
  checked(
    mountSetattrCall(callNumber.mountSetattr, tree, "", wholeTree, attributes, attributesBytes),
    () => `unable to shift GID/UID or set mount attrs for ${target}`,
  );
  checked(
    moveMountCall(callNumber.moveMount, tree, "", -1, target, moveEmptyPath),
    () => `unable to attach mount tree to ${target}`,
  );
}

/** Directories that are shown once more, with mapped ids and read-only, until it is disposed of. */
export interface MappedDirectories extends AsyncDisposable {
  /** The option `lowerdir` with them. */
  readonly option: string;
}

/**
 * Shows the lower directories of an overlay with the ids of a user namespace: overlayfs itself can't. The overlay keeps what it has been
 * given when they are gone from sight.
 *
 * @param option - `lowerdir=` and directories.
 * @param options.besides - A path beside which a directory for them is made.
 * @param options.unmount - Takes off the mount at a place, at once.
 * @source containerd v2.3.4 core/mount/mount_linux.go `doPrepareIDMappedOverlay`
 */
export async function mapLowerDirectories(
  option: string,
  options: {
    readonly namespace: number;
    readonly besides: string;
    readonly unmount: (place: string) => Promise<void>;
  },
): Promise<MappedDirectories> {
  const directories = option.slice("lowerdir=".length).split(":");
  const common = commonDirectory(directories);
  await using resources = new AsyncDisposableStack();
  const place = await mkdtemp(`${options.besides}.ids-`);
  resources.defer(() => rmdir(place));
  mountWithIds(common, place, { namespace: options.namespace, readOnly: true });
  resources.defer(() => options.unmount(place));
  const mapped = directories.map((directory) => `${place}${directory.slice(common.length)}`);
  const kept = resources.move();
  return { option: `lowerdir=${mapped.join(":")}`, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

/** The nearest directory that all are in. */
function commonDirectory(directories: readonly string[]): string {
  const parents = directories.map((directory) => directory.split("/").slice(0, -1));
  const [first = []] = parents;
  let depth = 0;
  while (depth < first.length && parents.every((parts) => parts[depth] === first[depth])) {
    depth += 1;
  }
  const common = first.slice(0, depth).join("/");
  if (common === "") {
    throw new FlotillaError(
      ErrorKind.Unknown,
      `failed to determine common parent: invalid common directory: ${common || "/"}`,
    );
  }
  return common;
}
