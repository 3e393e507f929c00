import { createHash } from "node:crypto";
import { chmod, lstat, mkdir } from "node:fs/promises";
import { isAbsolute, normalize } from "node:path";
import { ErrorKind, FlotillaError } from "#base/errors.ts";

/** Longest directory that leaves room for the name of a socket. @source containerd v2.3.4 core/runtime/v2/socket_linux.go `maxSocketDirLen` */
const directoryBytesMax = 42;

/** Where shims put their sockets unless told otherwise; shims before 2.3 always do. @source containerd v2.3.4 pkg/shim/util_unix.go `SocketAddress` */
const defaultDirectory = "/run/containerd/s";

/**
 * Chooses the directory for the sockets of shims and makes sure that it belongs to this user alone.
 *
 * @param configured - `socket_dir` of the configuration, "" for the first usable of the usual places.
 * @throws {@link FlotillaError} `unknown` with containerd's text.
 * @source containerd v2.3.4 core/runtime/v2/shim_manager.go `init`, shim_unix.go `defaultSocketDir`
 */
export async function openSocketDirectory(configured: string, user: SocketUser): Promise<string> {
  if (configured !== "") {
    if (!isAbsolute(configured)) {
      throw new FlotillaError(ErrorKind.Unknown, `socket_dir must be an absolute path: "${configured}"`);
    }
    const directory = normalize(configured);
    if (Buffer.byteLength(directory) > directoryBytesMax) {
      throw new FlotillaError(
        ErrorKind.Unknown,
        `socket_dir length must be no longer than ${directoryBytesMax} characters`,
      );
    }
    if (!(await isOwnDirectory(directory, user.uid))) {
      throw new FlotillaError(ErrorKind.Unknown, `socket_dir ${directory} does not belong to user ${user.uid}`);
    }
    return directory;
  }
  const candidates = [
    defaultDirectory,
    ...(user.runtimeDirectory === "" ? [] : [`${user.runtimeDirectory}/containerd/s`]),
    `/run/${user.uid}/containerd/s`,
    `/tmp/containerd-s-${user.uid}`,
  ];
  for (const directory of user.uid === 0 ? [defaultDirectory] : candidates) {
    if (Buffer.byteLength(directory) <= directoryBytesMax && (await isOwnDirectory(directory, user.uid))) {
      return directory;
    }
  }
  throw new FlotillaError(
    ErrorKind.Unknown,
    "failed to find a suitable socket directory for shim, please configure one",
  );
}

/** Whose sockets they are. */
export interface SocketUser {
  readonly uid: number;
  /** `XDG_RUNTIME_DIR`, or "". */
  readonly runtimeDirectory: string;
}

/**
 * The address at which the shim of a container, or of a group of them, listens.
 *
 * @source containerd v2.3.4 pkg/shim/util_unix.go `CreateSocketAddress`
 */
export function shimSocketAddress(
  directory: string,
  shim: { readonly grpcAddress: string; readonly namespace: string; readonly id: string },
): string {
  const name = createHash("sha256")
    .update(normalize(`${shim.grpcAddress}/${shim.namespace}/${shim.id}`))
    .digest("hex");
  return `unix://${directory}/${name}`;
}

async function isOwnDirectory(directory: string, uid: number): Promise<boolean> {
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const found = await lstat(directory);
    if (!found.isDirectory() || found.uid !== uid) {
      return false;
    }
    if ((found.mode & 0o777) !== 0o700) {
      await chmod(directory, 0o700);
    }
    return true;
  } catch {
    return false;
  }
}
