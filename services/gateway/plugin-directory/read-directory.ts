import { constants, type Stats } from "node:fs";
import { lstat, open, readdir, stat } from "node:fs/promises";
import { ErrorKind, errorMessage, failure, systemErrorCode } from "#base/errors.ts";
import { type PluginProgram, parsePluginManifest } from "#config/plugin-manifest.ts";
import { validateIdentifier } from "#containerd/identifier.ts";

/** A manifest that nothing is run for. */
export interface RefusedManifest {
  /** Name of the plugin, or of the file when that is none. */
  readonly name: string;
  readonly reason: string;
}

/** What the plugin directory holds. */
export interface PluginDirectory {
  readonly programs: ReadonlyMap<string, PluginProgram>;
  readonly refused: readonly RefusedManifest[];
}

const suffix = ".toml";
const manifestsMax = 64;
const manifestBytesMax = 65_536;
/** Writable by the group or by all. */
const othersWrite = 0o022;

/**
 * Reads the manifests of a plugin directory: `NAME.toml` makes a plugin `NAME`. Other files are passed over, and a directory that is not there is empty.
 *
 * What a manifest names is run as the daemon's user; so whoever else can write the directory, a manifest or a program could become that user, and
 * what is so is refused, as is what is not understood.
 */
export async function readPluginDirectory(path: string): Promise<PluginDirectory> {
  const programs = new Map<string, PluginProgram>();
  const refused: RefusedManifest[] = [];
  let files: string[];
  try {
    const found = await lstat(path);
    requireOurs(found, "the directory", found.isDirectory());
    files = (await readdir(path)).filter((name) => name.endsWith(suffix)).sort();
  } catch (error) {
    return systemErrorCode(error) === "ENOENT"
      ? { programs, refused }
      : { programs, refused: [{ name: "plugins", reason: errorMessage(error) }] };
  }
  for (const [index, file] of files.entries()) {
    const name = file.slice(0, -suffix.length);
    try {
      if (index >= manifestsMax) {
        throw failure(ErrorKind.InvalidArgument, `there are more than ${manifestsMax} manifests`);
      }
      validateIdentifier(name);
      const program = parsePluginManifest(await readManifest(`${path}/${file}`));
      await checkProgram(program.path);
      programs.set(name, program);
    } catch (error) {
      refused.push({ name, reason: errorMessage(error) });
    }
  }
  return { programs, refused };
}

async function readManifest(path: string): Promise<string> {
  const { O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants;
  await using file = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK).catch((error: unknown) => {
    throw systemErrorCode(error) === "ELOOP"
      ? failure(ErrorKind.InvalidArgument, "the manifest must be a file of its own, not a link")
      : error;
  });
  const found = await file.stat();
  requireOurs(found, "the manifest", found.isFile());
  if (found.size > manifestBytesMax) {
    throw failure(ErrorKind.InvalidArgument, `the manifest has more than ${manifestBytesMax} bytes`);
  }
  return await file.readFile("utf8");
}

/** The program may be a link, as programs of a distribution are. */
async function checkProgram(path: string): Promise<void> {
  const found = await stat(path).catch((error: unknown) => {
    throw failure(ErrorKind.NotFound, `program ${path}`, { cause: error });
  });
  requireOurs(found, `program ${path}`, found.isFile());
  if ((found.mode & 0o111) === 0) {
    throw failure(ErrorKind.PermissionDenied, `program ${path} cannot be run`);
  }
}

/** Root's and the daemon's user's files are trusted, if nobody else can write them. */
function requireOurs({ uid, mode }: Stats, what: string, isOfKind: boolean): void {
  if (!isOfKind) {
    throw failure(ErrorKind.InvalidArgument, `${what} is of another kind`);
  }
  if (uid !== 0 && uid !== process.geteuid?.()) {
    throw failure(ErrorKind.PermissionDenied, `${what} belongs to user ${uid}`);
  }
  if ((mode & othersWrite) !== 0) {
    throw failure(ErrorKind.PermissionDenied, `${what} can be written by others (mode ${(mode & 0o777).toString(8)})`);
  }
}
