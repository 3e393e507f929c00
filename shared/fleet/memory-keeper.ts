import { releaseFreeMemory, unmapProgram } from "#linux/memory.ts";

/** What a {@link MemoryKeeper} sees of the process, and what it does. */
export interface MemoryPort {
  /** Processor time that the process has used so far. */
  cpuMs(): number;
  residentBytes(): number;
  /** Frees what can be freed. Takes some 40 ms, during which nothing else happens; whoever comes next pays 3 ms of processor time for what comes back. */
  collect(): void;
}

/** How often a process looks at itself. */
export const checkMs = 3_000;
/** A process that has used less than this between two looks is idle. */
const idleCpuMsMax = 30;
/**
 * How often in a row it must be idle, but for the first time: the start is over then, and what it needed comes no more. Whoever comes back after a
 * pause of seconds would find every process cold: with clients in bursts some eight seconds apart, a container cost a seventh more processor time.
 */
const idleLooksMin = 4;
/** What must have been added for a collection to be worth its time. */
const growthBytesMin = 2 * 1024 * 1024;

/**
 * Gives memory back to the machine after the start and after bursts of work. V8 keeps what it has needed once, until it needs more: a process that
 * has become idle would hold on to it for good.
 *
 * Collects only when the process has been idle for some looks and has grown since the last collection, so never amid work, and once after each burst.
 */
export class MemoryKeeper {
  readonly #port: MemoryPort;
  #cpuMs: number;
  /** Looks in a row that found it idle. */
  #idleLooks = 0;
  /** What was left after the last collection; 0 before the first. */
  #keptBytes = 0;

  constructor(port: MemoryPort) {
    this.#port = port;
    this.#cpuMs = port.cpuMs();
  }

  /** To be called every {@link checkMs}. */
  check(): void {
    const cpuMs = this.#port.cpuMs();
    this.#idleLooks = cpuMs - this.#cpuMs < idleCpuMsMax ? this.#idleLooks + 1 : 0;
    const isIdle = this.#idleLooks >= (this.#keptBytes === 0 ? 1 : idleLooksMin);
    if (isIdle && this.#port.residentBytes() >= this.#keptBytes + growthBytesMin) {
      this.#port.collect();
      this.#keptBytes = this.#port.residentBytes();
    }
    this.#cpuMs = this.#port.cpuMs();
  }
}

/** Keeps the memory of this process small for the rest of its life. Does nothing when Node.js runs without `--expose-gc`, as in development. */
export function keepMemorySmall(): void {
  const { gc } = globalThis;
  if (gc === undefined) {
    return;
  }
  const keeper = new MemoryKeeper({
    cpuMs: () => {
      const { user, system } = process.cpuUsage();
      return (user + system) / 1000;
    },
    residentBytes: () => process.memoryUsage.rss(),
    collect: () => {
      // Only this flavour gives pages back.
      gc({ type: "major", execution: "sync", flavor: "last-resort" });
      releaseFreeMemory();
      unmapProgram();
    },
  });
  setInterval(() => keeper.check(), checkMs).unref();
}
