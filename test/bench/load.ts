import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

/** A call with one request, whose answers are counted and not looked at. */
export interface LoadCall {
  /** `/package.Service/Method`. */
  readonly path: string;
  readonly messageBase64: string;
}

/** A turn of calls, made over and over: the calls of a turn one after the other, one turn or several at a time. */
export interface LoadJob {
  /** Path of the daemon's socket. */
  readonly address: string;
  readonly calls: readonly LoadCall[];
  readonly namespace: string;
  /** Turns at a time. */
  readonly inFlight: number;
  /** Makes a new connection for each turn, which counts as part of it; one turn at a time then. */
  readonly connectsEachTime?: boolean;
  readonly durationMs: number;
  /** How long to call before it counts. */
  readonly warmUpMs: number;
}

/** What the turns came to. */
export interface LoadReport {
  readonly turns: number;
  readonly elapsedMs: number;
  readonly medianMs: number;
  readonly receivedBytes: number;
}

/** A process that makes calls. */
export interface LoadClient extends AsyncDisposable {
  run(job: LoadJob): Promise<LoadReport>;
}

/** Starts a process that makes calls. */
export function startLoadClient(): LoadClient {
  const child = fork(fileURLToPath(new URL("./load-process.ts", import.meta.url)));
  return {
    async run(job) {
      child.send(job);
      const [answer] = (await once(child, "message")) as [LoadReport | { readonly failure: string }];
      if ("failure" in answer) {
        throw new Error(`calling ${job.calls.map(({ path }) => path).join(", ")}: ${answer.failure}`);
      }
      return answer;
    },
    async [Symbol.asyncDispose]() {
      const exited = once(child, "exit");
      child.kill();
      await exited;
    },
  };
}
