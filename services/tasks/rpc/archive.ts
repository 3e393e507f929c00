import { spawn } from "node:child_process";
import { once } from "node:events";
import { ErrorKind, FlotillaError, wrapFailure } from "#base/errors.ts";
import { ProgramFailure, runProgram } from "#linux/program.ts";

/** How long unpacking may take. */
const unpackTimeoutMs = 10 * 60_000;

/**
 * Unpacks a tar file, which comes from a client, into a directory. Names that lead out of it are refused.
 *
 * @source tar(1)
 */
export async function unpackArchive(archive: string, directory: string): Promise<void> {
  try {
    await runProgram({
      path: "tar",
      args: ["--extract", "--file", archive, "--directory", directory],
      environment: process.env,
      timeoutMs: unpackTimeoutMs,
    });
  } catch (error) {
    const printed = error instanceof ProgramFailure ? error.output.stderr.toString("utf8").trim() : "";
    throw wrapFailure(error, `unpack ${archive}: ${printed}`);
  }
}

/** How much of what a program complains of is kept, in reads. */
const printedChunksMax = 16;

/** Packs what lies in a directory into a tar stream. A reader that stops early ends the program. */
export async function* packDirectory(directory: string): AsyncGenerator<Uint8Array> {
  const tar = spawn("tar", ["--create", "--file", "-", "--directory", directory, "."], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const ended = once(tar, "close") as Promise<[status: number | null]>;
  // It is awaited below, and may fail before that.
  ended.catch(() => undefined);
  const words: Buffer[] = [];
  tar.stderr.on("data", (chunk: Buffer) => {
    if (words.length < printedChunksMax) {
      words.push(chunk);
    }
  });
  try {
    yield* tar.stdout as AsyncIterable<Buffer>;
    const [status] = await ended;
    if (status !== 0) {
      const printed = Buffer.concat(words).toString("utf8").trim();
      throw new FlotillaError(ErrorKind.Unknown, `pack ${directory}: exit status ${status}: ${printed}`);
    }
  } finally {
    tar.kill();
  }
}
