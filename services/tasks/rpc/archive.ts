import { execa } from "execa";
import { ErrorKind, errorMessage, FlotillaError } from "#base/errors.ts";

/**
 * Unpacks a tar file, which comes from a client, into a directory. Paths that lead out of it are refused.
 *
 * @source tar(1)
 */
export async function unpackArchive(archive: string, directory: string): Promise<void> {
  try {
    await execa("tar", ["--extract", "--file", archive, "--directory", directory]);
  } catch (error) {
    throw new FlotillaError(ErrorKind.Unknown, `unpack ${archive}: ${errorMessage(error)}`, { cause: error });
  }
}

/** Packs what lies in a directory into a tar stream. */
export async function* packDirectory(directory: string): AsyncGenerator<Uint8Array> {
  const tar = execa("tar", ["--create", "--file", "-", "--directory", directory, "."], {
    encoding: "buffer",
    buffer: false,
  });
  yield* tar.iterable({ binary: true });
}
