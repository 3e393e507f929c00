import { ErrorKind, failure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { toByteString } from "#linux/bytes.ts";
import { closeFile, OpenFlag, openAt, openResolved, Resolve, succeed, workingDirectory } from "#linux/file.ts";

/** A name in a directory that is open. */
export interface PlaceInRoot extends Disposable {
  /** Descriptor of the directory; closed with the place. */
  readonly directory: number;
  readonly name: string;
}

/**
 * Opens the directory of a path that lies in one of the directories where transformers may make things. No symbolic link leads out of it.
 *
 * @param purpose - Names the transformer in the error.
 * @throws {@link FlotillaError} `not_implemented` when the path is elsewhere.
 * @throws {@link SystemError} when the directory is not there, or a link in the path leads out.
 * @source containerd v2.3.4 core/mount/manager/mkdir.go, mkfs.go (`rootMap`)
 */
export function openPlace(path: string, roots: readonly string[], purpose: string): PlaceInRoot {
  const root = roots.find((candidate) => path.startsWith(`${candidate}/`));
  const below =
    root === undefined
      ? []
      : path
          .slice(root.length + 1)
          .split("/")
          .filter((part) => part !== "");
  const name = below.pop();
  if (root === undefined || name === undefined || name === "." || name === "..") {
    throw failure(ErrorKind.NotImplemented, `no root ${quote(path)} configured for ${purpose}`);
  }
  const flags = OpenFlag.Path | OpenFlag.Directory;
  const top = succeed(openAt(workingDirectory, toByteString(root), flags), () => `open ${root}`);
  try {
    const parent = below.length === 0 ? "." : below.join("/");
    const directory = succeed(
      openResolved(top, toByteString(parent), flags, Resolve.Beneath),
      () => `failed to stat ${quote(path)}`,
    );
    return {
      directory,
      name,
      [Symbol.dispose]: () => {
        closeFile(directory);
      },
    };
  } finally {
    closeFile(top);
  }
}
