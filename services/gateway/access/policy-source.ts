import { readFileSync, statSync } from "node:fs";
import type { Policy } from "./policy.ts";
import { parsePolicy } from "./policy-file.ts";

/** Time between two looks at the file. */
const lookMsMin = 1_000;

export interface PolicySourceOptions {
  readonly path: string;
  /** The methods that there are, `package.Service/Method`. */
  readonly methods: readonly string[];
  /** Told when a changed file is in use. */
  onChange(): void;
  /** Told when a changed file can't be used; what held before goes on. */
  onFailure(error: unknown): void;
}

/** A policy that is read again when its file has changed, within a second of the next call. */
export class PolicySource {
  readonly #options: PolicySourceOptions;
  #seen: string;
  #lookedAtMs = performance.now();
  #policy: Policy;

  /** @throws What keeps the file from being read or understood: without its policy the daemon lets nobody in. */
  constructor(options: PolicySourceOptions) {
    this.#options = options;
    this.#seen = this.#look();
    this.#policy = this.#read();
  }

  /** The policy that holds now. */
  get(): Policy {
    const nowMs = performance.now();
    if (nowMs - this.#lookedAtMs >= lookMsMin) {
      this.#lookedAtMs = nowMs;
      this.#refresh();
    }
    return this.#policy;
  }

  #refresh(): void {
    try {
      // Looked at before it is read, so that what changes meanwhile is seen the next time.
      const seen = this.#look();
      if (seen !== this.#seen) {
        this.#seen = seen;
        this.#policy = this.#read();
        this.#options.onChange();
      }
    } catch (error) {
      this.#options.onFailure(error);
    }
  }

  #look(): string {
    const { ino, size, mtimeMs } = statSync(this.#options.path);
    return `${ino} ${size} ${mtimeMs}`;
  }

  #read(): Policy {
    const { path, methods } = this.#options;
    return parsePolicy(readFileSync(path, "utf8"), path, methods);
  }
}
