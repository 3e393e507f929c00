import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

/** Calls of one method, one after the other or several at a time. */
export interface LoadJob {
  /** Path of the daemon's socket. */
  readonly address: string;
  /** `/package.Service/Method`. */
  readonly path: string;
  readonly namespace: string;
  readonly messageBase64: string;
  readonly inFlight: number;
  readonly durationMs: number;
  /** How long to call before it counts. */
  readonly warmUpMs: number;
}

/** What the calls came to. */
export interface LoadReport {
  readonly calls: number;
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
        throw new Error(`calling ${job.path}: ${answer.failure}`);
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
