import { type MessagePort, parentPort } from "node:worker_threads";
import { ErrorKind, errorMessage, FlotillaError } from "#base/errors.ts";
import { clearThreadUmask } from "#linux/process.ts";
import { applyLayer } from "./apply.ts";
import { streamLayer } from "./layer-stream.ts";
import {
  type JobMessage,
  type JobRequest,
  type JobResponse,
  type JobResult,
  type LayerJob,
  piecesOnTheWayMax,
} from "./layer-thread-protocol.ts";

/** The thread that reads and writes layers: system calls there keep nobody waiting, and it has a umask of its own. */

clearThreadUmask();

parentPort?.on("message", ({ request, port }: JobMessage) => {
  const canceling = new AbortController();
  const credit = new Credit(piecesOnTheWayMax);
  port.on("message", (message: JobRequest) => {
    if (message === "cancel") {
      canceling.abort(new FlotillaError(ErrorKind.Canceled, ErrorKind.Canceled));
    }
    credit.add();
  });
  const send = (bytes: Uint8Array): Promise<void> => {
    // Copied, since what is sent is a part of a buffer that zlib goes on using.
    const copy = new Uint8Array(bytes);
    respond(port, { kind: "piece", bytes: copy }, [copy.buffer]);
    return credit.take();
  };
  void run(request, canceling.signal, send)
    // What a cancelled job fails with says where it was, not why it ended.
    .catch((error: unknown) => failed(canceling.signal.aborted ? canceling.signal.reason : error))
    .then((result) => {
      respond(port, result);
      port.close();
    });
});

async function run(
  request: LayerJob,
  signal: AbortSignal,
  send: (bytes: Uint8Array) => Promise<void>,
): Promise<JobResult> {
  if (request.kind === "apply") {
    return { kind: "applied", layer: await applyLayer(request.job, signal) };
  }
  const pieces = streamLayer(request.job, signal);
  try {
    for (;;) {
      const next = await pieces.next();
      if (next.done === true) {
        return { kind: "written", layer: next.value };
      }
      await send(next.value);
      signal.throwIfAborted();
    }
  } finally {
    await pieces.return({ uncompressedDigest: "" });
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

function failed(error: unknown): JobResult {
  const errorKind = error instanceof FlotillaError ? error.kind : ErrorKind.Unknown;
  const stack = error instanceof Error ? error.stack : undefined;
  return { kind: "failed", errorKind, message: errorMessage(error), stack };
}

function respond(port: MessagePort, response: JobResponse, transfer: ArrayBuffer[] = []): void {
  port.postMessage(response, transfer);
}
