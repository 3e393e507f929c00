import { type MessagePort, parentPort } from "node:worker_threads";
import { ErrorKind, errorMessage, FlotillaError, systemErrorCode } from "#base/errors.ts";
import { clearThreadUmask } from "#linux/process.ts";
import { applyLayer } from "../layers/apply.ts";
import { makeImage } from "../layers/erofs/make-image.ts";
import { adoptDirectories } from "../layers/implied-directories.ts";
import { streamLayer } from "../layers/layer-stream.ts";
import { copyFile } from "../trees/copy-file.ts";
import { copyTree } from "../trees/copy-tree.ts";
import { measureTree } from "../trees/measure-tree.ts";
import { removeTrees } from "../trees/remove-trees.ts";
import {
  type JobEnd,
  type JobMessage,
  type JobRequest,
  type JobResponse,
  piecesOnTheWayMax,
  type ThreadJob,
} from "./protocol.ts";

/** The thread that works on file systems: system calls there keep nobody waiting, and it has a umask of its own. */

clearThreadUmask();

parentPort?.on("message", ({ job, port }: JobMessage) => {
  const canceling = new AbortController();
  const credit = new Credit(piecesOnTheWayMax);
  port.on("message", (message: JobRequest) => {
    if (message === "cancel") {
      canceling.abort(new FlotillaError(ErrorKind.Canceled, ErrorKind.Canceled));
    }
    credit.add();
  });
  const output: JobOutput = {
    send(bytes) {
      // Copied, since what is sent is a part of a buffer that zlib goes on using.
      const copy = new Uint8Array(bytes);
      respond(port, { kind: "piece", bytes: copy }, [copy.buffer]);
      return credit.take();
    },
    report: (usedBytes) => respond(port, { kind: "progress", usedBytes }),
  };
  void run(job, canceling.signal, output)
    .then<JobEnd>((result) => ({ kind: "done", result }))
    // What a cancelled job fails with says where it was, not why it ended.
    .catch((error: unknown) => failed(canceling.signal.aborted ? canceling.signal.reason : error))
    .then((end) => {
      respond(port, end);
      port.close();
    });
});

interface JobOutput {
  /** Sends a piece, and resolves when there is room for another. */
  send(bytes: Uint8Array): Promise<void>;
  report(usedBytes: number): void;
}

async function run(job: ThreadJob, signal: AbortSignal, output: JobOutput): Promise<unknown> {
  switch (job.kind) {
    case "apply":
      return await applyLayer(job.input, signal, (usedBytes) => output.report(usedBytes));
    case "makeImage":
      return await makeImage(job.input, signal, (usedBytes) => output.report(usedBytes));
    case "compare":
      return await sendPieces(streamLayer(job.input, signal), signal, output);
    case "adopt":
      return adoptDirectories(job.input);
    case "measure":
      return measureTree(job.input.root, job.input.base);
    case "remove":
      return removeTrees(job.input);
    case "copyFile":
      return copyFile(job.input.source, job.input.target);
    default:
      return copyTree(job.input.source, job.input.target);
  }
}

async function sendPieces<T>(
  pieces: AsyncGenerator<Uint8Array, T>,
  signal: AbortSignal,
  output: JobOutput,
): Promise<T> {
  try {
    for (;;) {
      const next = await pieces.next();
      if (next.done === true) {
        return next.value;
      }
      await output.send(next.value);
      signal.throwIfAborted();
    }
  } finally {
    await pieces.return(undefined as T);
  }
}

/** Counts what may be sent before the receiver has used something. */
class Credit {
  #left: number;
  #onAdded: () => void = () => undefined;

  constructor(left: number) {
    this.#left = left;
  }

  add(): void {
    this.#left += 1;
    this.#onAdded();
  }

  /** Uses one up, and resolves when there is another. */
  async take(): Promise<void> {
    this.#left -= 1;
    if (this.#left <= 0) {
      await new Promise<void>((resolve) => {
        this.#onAdded = resolve;
      });
    }
  }
}

function failed(error: unknown): JobEnd {
  const errorKind = error instanceof FlotillaError ? error.kind : ErrorKind.Unknown;
  const stack = error instanceof Error ? error.stack : undefined;
  return { kind: "failed", errorKind, message: errorMessage(error), code: systemErrorCode(error), stack };
}

function respond(port: MessagePort, response: JobResponse, transfer: ArrayBuffer[] = []): void {
  port.postMessage(response, transfer);
}
