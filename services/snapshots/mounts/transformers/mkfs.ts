import { parseByteSize } from "#base/byte-size.ts";
import { ErrorKind, FlotillaError, failure, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { toByteString } from "#linux/bytes.ts";
import { closeFile, OpenFlag, openAt, removeFileAt, setSize, succeed } from "#linux/file.ts";
import { ProgramFailure, runProgram } from "#linux/program.ts";
import { findStatusAt } from "#linux/stat.ts";
import { openPlace } from "./allowed-roots.ts";
import type { Transformer } from "./transformer.ts";

const prefix = "X-containerd.mkfs.";
/** How long formatting may take. An image of terabytes takes seconds, since it is sparse. */
const formatMsMax = 120_000;

interface WantedFileSystem {
  readonly sizeBytes: number;
  readonly type: string;
  readonly uuid: string;
}

/**
 * Makes the source of a mount as a sparse file with a file system in it, unless it is there. Options `X-containerd.mkfs.size=SIZE`,
 * `….fs=TYPE` (ext4) and `….uuid=UUID` say how, and are taken away. A file that could not be formatted does not stay.
 *
 * @param roots - Directories in which that is allowed.
 * @throws {@link FlotillaError} `invalid_argument` for options that make no sense, `not_implemented` for a source that is in no root,
 *   `unknown` with what mkfs says.
 * @source containerd v2.3.4 core/mount/manager/mkfs.go
 */
export function makeFileSystem(roots: readonly string[]): Transformer {
  return async (mount) => {
    using place = openPlace(mount.source, roots, "mkfs");
    const wanted = readOptions(mount.options);
    const name = toByteString(place.name);
    if (findStatusAt(place.directory, name) === undefined) {
      const context = (): string => `failed to create file ${quote(mount.source)}`;
      const flags = OpenFlag.ReadWrite | OpenFlag.Create | OpenFlag.Exclusive;
      const file = succeed(openAt(place.directory, name, flags, 0o640), context);
      try {
        succeed(setSize(file, wanted.sizeBytes), () => `failed to truncate file ${quote(mount.source)}`);
        await runMkfs(wanted, `/proc/${process.pid}/fd/${file}`);
      } catch (error) {
        removeFileAt(place.directory, name);
        throw wrapFailure(error, `failed format ${quote(mount.source)}`);
      } finally {
        closeFile(file);
      }
    }
    return { ...mount, options: mount.options.filter((option) => !option.startsWith(prefix)) };
  };
}

function readOptions(options: readonly string[]): WantedFileSystem {
  const wanted = { sizeBytes: 0, type: "ext4", uuid: "" };
  for (const option of options.filter((candidate) => candidate.startsWith(prefix))) {
    const [, key = option, value = "true"] = /^([^=]*)=(.*)$/s.exec(option.slice(prefix.length)) ?? [];
    switch (key) {
      case "size":
        wanted.sizeBytes = readSize(value);
        break;
      case "fs":
        wanted.type = value;
        break;
      case "uuid":
        wanted.uuid = value;
        break;
      default:
        throw failure(ErrorKind.InvalidArgument, `unknown mount option ${key}`);
    }
  }
  if (wanted.sizeBytes === 0) {
    throw failure(ErrorKind.InvalidArgument, "mkfs requires mkfs.size option");
  }
  return wanted;
}

function readSize(value: string): number {
  try {
    return parseByteSize(value);
  } catch (error) {
    throw wrapFailure(error, "bad option size");
  }
}

async function runMkfs({ type, uuid }: WantedFileSystem, path: string): Promise<void> {
  if (!["ext2", "ext3", "ext4", "xfs"].includes(type)) {
    throw failure(ErrorKind.InvalidArgument, `unsupported filesystem ${quote(type)}`);
  }
  const program = `mkfs.${type}`;
  const identity = uuid === "" ? [] : type === "xfs" ? ["-m", `uuid=${uuid}`] : ["-U", uuid];
  try {
    const environment = { ...process.env, PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin` };
    await runProgram({ path: program, args: ["-q", ...identity, path], environment, timeoutMs: formatMsMax });
  } catch (error) {
    const printed =
      error instanceof ProgramFailure ? `${error.output.stdout.toString()}${error.output.stderr.toString()}` : "";
    throw new FlotillaError(ErrorKind.Unknown, `${program} failed: ${printed}: ${(error as Error).message}`, {
      cause: error,
    });
  }
}
