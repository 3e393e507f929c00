import { execa } from "execa";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import type { StreamProcessorConfig } from "#config/config.ts";

/** What a program may say on standard error before the rest is dropped. */
const complaintBytesMax = 64 * 1024;

/** How to run a program on a stream. */
export interface ProcessorRun {
  readonly config: Pick<StreamProcessorConfig, "path" | "args" | "env">;
  /** Media type of the stream. */
  readonly input: string;
  /** An encoded `google.protobuf.Any` that a client sent for the program; it reads it from descriptor 3. */
  readonly payload: Uint8Array | undefined;
  /** Ends the program. */
  readonly signal: AbortSignal;
}

/**
 * Passes a stream through a program, from its standard input to its standard output.
 *
 * The program ends with the reading: it is killed when the reader stops early or the signal comes.
 *
 * @throws {@link FlotillaError} with what the program said on standard error when it ends with a status other than 0.
 * @source containerd v2.3.4 core/diff/stream_unix.go `NewBinaryProcessor`
 */
export async function* processStream(
  source: AsyncIterable<Buffer>,
  { config, input, payload, signal }: ProcessorRun,
): AsyncGenerator<Buffer> {
  const environment = Object.fromEntries(config.env.map(splitAssignment));
  const child = execa(config.path, config.args, {
    env: { ...environment, STREAM_PROCESSOR_MEDIATYPE: input },
    stdio: [passOn(source), "pipe", "pipe", ...(payload === undefined ? [] : [payload])],
    // Standard output is the layer: it is passed on and never kept.
    buffer: { stdout: false },
    maxBuffer: { stderr: complaintBytesMax },
    encoding: "buffer",
    cancelSignal: signal,
    reject: false,
  });
  try {
    for await (const chunk of child.iterable({ binary: true })) {
      yield Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    }
  } finally {
    // It has nobody to write to any more. After it has ended by itself this does nothing.
    child.kill("SIGKILL");
  }
  const result = await child;
  if (result.failed) {
    const complaint = result.stderr instanceof Uint8Array ? Buffer.from(result.stderr).toString() : "";
    const reason =
      result.exitCode === undefined ? (result.originalMessage ?? "killed") : `exit status ${result.exitCode}`;
    throw new FlotillaError(ErrorKind.Unknown, complaint === "" ? `${config.path}: ${reason}` : complaint, {
      cause: result.cause,
    });
  }
}

/** The pieces as ones that may wait in a pipe: those of a blob are only good until the next. */
async function* passOn(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  for await (const piece of source) {
    yield Buffer.from(piece);
  }
}

function splitAssignment(text: string): [name: string, value: string] {
  const [name = "", ...value] = text.split("=");
  return [name, value.join("=")];
}
