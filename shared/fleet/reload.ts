import type { FleetConfig } from "#config/config.ts";
import type { ConfigurablePlugin } from "#config/manifest.ts";
import { planReload, type ReloadReport } from "#config/reload.ts";
import { type Logger, setLogLevel } from "./log.ts";

/**
 * Takes part in a reload: looks at what the configuration is going to be, throws when that can't be, and returns what has to be done about it once all
 * parts of the process can. For what a part keeps of the configuration; who reads it each time goes by the new one anyway.
 */
export type ReloadListener = (next: FleetConfig) => () => void | Promise<void>;

/** What reading the configuration again takes. */
export interface ReloaderOptions {
  /** The configuration that the process goes by. Changed in place. */
  readonly config: FleetConfig;
  readonly log: Logger;
  /** Reads the files and flags again. */
  readonly load: () => Promise<FleetConfig>;
  /** The plugins whose tables the process reads. */
  readonly plugins: readonly ConfigurablePlugin[];
}

/** The reading of the configuration while a process runs, one time after the other. */
export class Reloader {
  readonly #options: ReloaderOptions;
  readonly #listeners: ReloadListener[] = [];
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: ReloaderOptions) {
    this.#options = options;
  }

  /** Has a part take part in each reload. */
  onReload(listener: ReloadListener): void {
    this.#listeners.push(listener);
  }

  /**
   * Reads the configuration again and takes over what may change.
   *
   * @throws What is wrong with the files, or with what a part makes of them; everything is as it was then.
   */
  reload(): Promise<ReloadReport> {
    const run = this.#last.then(() => this.#reload());
    this.#last = run.catch(() => undefined);
    return run;
  }

  async #reload(): Promise<ReloadReport> {
    const { config, log, load, plugins } = this.#options;
    const { report, next, takeOver } = planReload(config, await load(), plugins);
    const steps = this.#listeners.map((listener) => listener(next));
    takeOver();
    setLogLevel(log, config.log.level);
    for (const step of steps) {
      try {
        await step();
      } catch (error) {
        log.error({ err: error }, "a part of this process does not go by the new configuration");
      }
    }
    return report;
  }
}

/** Tells of a reload: what has changed in one entry, and what takes a start in one for each setting. */
export function tellReload(log: Logger, { changed, frozen }: ReloadReport): void {
  log.info({ changed }, "configuration reloaded");
  for (const setting of frozen) {
    log.warn({ setting }, "this setting has changed and holds from the next start on");
  }
}
