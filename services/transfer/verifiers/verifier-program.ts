import { execa } from "execa";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { descriptorJson } from "../domain/descriptor-json.ts";
import { goJson } from "../domain/go-json.ts";
import type { Descriptor } from "../registry/ports.ts";

/** Most bytes of what a verifier prints that are looked at. @source containerd v2.3.4 pkg/imageverifier/bindir/bindir.go `outputLimitBytes` */
const outputBytesMax = 32 * 1024;

export interface VerifierRun {
  readonly name: string;
  readonly descriptor: Descriptor;
  readonly timeoutMs: number;
  /** Told what it prints on its standard error. */
  readonly onError: (text: string) => void;
  readonly signal: AbortSignal;
}

/**
 * Runs a verifier and waits for it. It, and what it has started and not put into other process groups, is killed when it takes too long.
 *
 * @throws {@link FlotillaError} `unknown` when it cannot be run or does not end by itself.
 */
export async function runVerifier(
  program: string,
  { name, descriptor, timeoutMs, onError, signal }: VerifierRun,
): Promise<{ readonly exitCode: number; readonly output: string }> {
  const mediaType = "application/vnd.oci.descriptor.v1+json";
  const args = ["-name", name, "-digest", descriptor.digest, "-stdin-media-type", mediaType];
  const child = execa(program, args, {
    input: Buffer.concat([goJson(descriptorJson(descriptor)), Buffer.from("\n")]),
    buffer: false,
    detached: true,
    reject: false,
  });
  const killGroup = (): void => {
    if (child.pid !== undefined) {
      try {
        process.kill(-child.pid, "SIGKILL");
      } catch {
        // The group has ended.
      }
    }
  };
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
  deadline.addEventListener("abort", killGroup, { once: true });
  try {
    const [output, errors, result] = await Promise.all([readSome(child.stdout), readSome(child.stderr), child]);
    if (errors !== "") {
      onError(errors);
    }
    if (result.exitCode === undefined) {
      throw new FlotillaError(ErrorKind.Unknown, `waiting on command to exit: ${result.shortMessage ?? "killed"}`);
    }
    return { exitCode: result.exitCode, output };
  } finally {
    deadline.removeEventListener("abort", killGroup);
    killGroup();
  }
}

/** Reads to the end and keeps the beginning. */
async function readSome(stream: AsyncIterable<Buffer>): Promise<string> {
  const kept: Buffer[] = [];
  let length = 0;
  for await (const piece of stream) {
    kept.push(piece.subarray(0, Math.max(0, outputBytesMax - length)));
    length += piece.length;
  }
  const text = Buffer.concat(kept).toString("utf8").trim();
  return length > outputBytesMax ? `${text}(stdout truncated)` : text;
}
