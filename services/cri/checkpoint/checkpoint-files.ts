import { createWriteStream } from "node:fs";
import { readdir, rm, writeFile } from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { ProgramFailure, runProgram } from "#linux/program.ts";
import { type CriPeers, criCall } from "../peers.ts";

/** How long packing and unpacking may take, in milliseconds. */
const packMsMax = 10 * 60_000;
const fileMode = 0o600;

/** Writes a blob to a file. @throws {@link FlotillaError} `not_found` when it is not here. */
export async function writeBlob(
  { content }: Pick<CriPeers, "content">,
  digest: string,
  path: string,
  signal: AbortSignal,
): Promise<void> {
  const call = criCall({ signal, timeoutMs: packMsMax });
  const pieces = async function* (): AsyncGenerator<Uint8Array> {
    for await (const { data } of content.read({ digest }, call)) {
      yield data;
    }
  };
  await pipeline(pieces, createWriteStream(path, { mode: fileMode }), { signal });
}

/**
 * Unpacks a blob that is a tar archive into a directory. Names that lead out of it are refused.
 *
 * @source tar(1)
 */
export async function unpackFiles(
  peers: Pick<CriPeers, "content">,
  digest: string,
  directory: string,
  signal: AbortSignal,
): Promise<void> {
  const archive = `${directory}.tar`;
  await writeBlob(peers, digest, archive, signal);
  try {
    await runTar(["--extract", "--no-same-owner", `--file=${archive}`, `--directory=${directory}`]);
  } finally {
    await rm(archive, { force: true });
  }
}

/**
 * Packs all that lies in a directory into a tar archive, which nobody else may read.
 *
 * @param location - Path of the archive. What is there is written over.
 */
export async function packFiles(directory: string, location: string, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const files = (await readdir(directory)).toSorted();
  await writeFile(location, "", { mode: fileMode });
  await runTar([
    "--create",
    "--format=pax",
    "--sort=name",
    "--force-local",
    `--file=${location}`,
    `--directory=${directory}`,
    "--",
    ...files,
  ]);
}

async function runTar(args: readonly string[]): Promise<void> {
  try {
    await runProgram({ path: "tar", args, environment: process.env, timeoutMs: packMsMax });
  } catch (error) {
    const printed = error instanceof ProgramFailure ? error.output.stderr.toString("utf8").trim() : "";
    throw new FlotillaError(ErrorKind.Unknown, `tar: ${printed === "" ? String(error) : printed}`, { cause: error });
  }
}
