import type { FleetConfig } from "#config/config.ts";
import { type ReloadReport, reloadConfig } from "#config/reload.ts";
import { type Logger, setLogLevel } from "./log.ts";

/** Called when the configuration was read again, with what it says now; for what a part reads once and can read again. */
export type ReloadListener = (fresh: FleetConfig) => void;

/** What reading the configuration again takes. */
export interface ReloaderOptions {
  /** The configuration that the process goes by. Changed in place. */
  readonly config: FleetConfig;
  readonly log: Logger;
  /** Reads the files and flags again. */
  readonly load: () => Promise<FleetConfig>;
}

/** The reading of the configuration while a process runs, one time after the other. */
export class Reloader {
  readonly #options: ReloaderOptions;
  readonly #listeners: ReloadListener[] = [];
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: ReloaderOptions) {
    this.#options = options;
  }

  /** Has a part told of each reload. */
  onReload(listener: ReloadListener): void {
    this.#listeners.push(listener);
  }

  /**
   * Reads the configuration again and takes over what may change.
   *
   * @throws What is wrong with the files; everything is as it was then.
   */
  reload(): Promise<ReloadReport> {
    const run = this.#last.then(() => this.#reload());
    this.#last = run.catch(() => undefined);
    return run;
  }

  async #reload(): Promise<ReloadReport> {
    const { config, log, load } = this.#options;
    const fresh = await load();
    const report = reloadConfig(config, fresh);
    setLogLevel(log, config.log.level);
    this.#listeners.forEach((listener) => listener(fresh));
    return report;
  }
}
