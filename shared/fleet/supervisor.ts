import { setTimeout as delay } from "node:timers/promises";
import { execa } from "execa";
import { ErrorKind, errorMessage, failure } from "#base/errors.ts";
import type { Logger } from "./log.ts";
import { DeathRecord, type RestartPolicy } from "./restart-policy.ts";

/** A program that a process of ours owns. */
export interface Member {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Called before each start. What it throws counts as a death of the member. */
  prepare?(): Promise<void>;
  /** Resolves when the process serves; rejects when it does not in time, or when the signal aborts. */
  awaitReady(signal: AbortSignal): Promise<void>;
}

export interface SupervisorOptions {
  readonly policy: RestartPolicy;
  readonly log: Logger;
  /** Aborts the wait for members that are being started for the first time. */
  readonly interrupted: AbortSignal;
  /** Told when a member has used its budget of restarts up. It is not started again. */
  readonly onFailed: (name: string) => void;
}

/** How long a member may take to stop before it is killed. */
const stopMsMax = 12_000;

/**
 * Starts members, restarts those that die, and stops them.
 *
 * Every member runs in a session of its own, so that a Ctrl-C reaches its owner alone, and gets SIGKILL from the kernel when
 * its owner dies: members are built to be killed at any time, and a new owner must not meet the old ones.
 */
export class Supervisor {
  readonly #options: SupervisorOptions;
  readonly #watches: Watch[] = [];
  #isStopped = false;

  constructor(options: SupervisorOptions) {
    this.#options = options;
  }

  /**
   * Starts a member at once; it need not be ready when those after it are started.
   *
   * @returns Resolves when the member is ready for the first time.
   * @throws {@link FlotillaError} `unavailable` when it ends before that, or when the supervisor has been stopped.
   */
  async start(member: Member): Promise<void> {
    if (this.#isStopped) {
      throw failure(ErrorKind.Unavailable, `${member.name} is not started, since the fleet is stopping`);
    }
    const watch = new Watch(member, this.#options);
    this.#watches.push(watch);
    await watch.start();
  }

  /** Stops the members one after the other, the last started first. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const watch of this.#watches.toReversed()) {
      await watch.stop();
    }
  }

  /** Process id of a member that is running. */
  pidOf(name: string): number | undefined {
    return this.#watches.find((watch) => watch.name === name)?.pid;
  }
}

class Watch {
  readonly #member: Member;
  readonly #options: SupervisorOptions;
  readonly #deaths: DeathRecord;
  readonly #stopping = new AbortController();
  #process: ReturnType<typeof spawnMember> | undefined;
  #ended: Promise<void> = Promise.resolve();

  constructor(member: Member, options: SupervisorOptions) {
    this.#member = member;
    this.#options = options;
    this.#deaths = new DeathRecord(options.policy);
  }

  get name(): string {
    return this.#member.name;
  }

  get pid(): number | undefined {
    return this.#process?.pid;
  }

  async start(): Promise<void> {
    await this.#member.prepare?.();
    if (this.#stopping.signal.aborted) {
      throw failure(ErrorKind.Unavailable, `${this.#member.name} is not started, since its owner is stopping`);
    }
    const run = this.#spawn();
    const interrupted = AbortSignal.any([this.#stopping.signal, this.#options.interrupted, run.over.signal]);
    const ready = this.#member.awaitReady(interrupted).then(() => "ready" as const);
    const outcome = await Promise.race([ready, run.ended]);
    if (outcome !== "ready") {
      ready.catch(() => undefined);
      throw failure(ErrorKind.Unavailable, `${this.#member.name} ended during its start (${outcome})`);
    }
    this.#ended = this.#keepRunning(run);
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#process?.kill("SIGTERM");
    const killer = setTimeout(() => {
      this.#options.log.warn({ member: this.#member.name, pid: this.pid }, "member did not stop in time, killing it");
      this.#process?.kill("SIGKILL");
    }, stopMsMax);
    await this.#process?.catch(() => undefined);
    await this.#ended;
    this.#process = undefined;
    clearTimeout(killer);
  }

  #spawn(): Run {
    const child = spawnMember(this.#member);
    this.#process = child;
    this.#options.log.debug({ member: this.#member.name, pid: child.pid }, "started member");
    const over = new AbortController();
    const ended = describeEnd(child).finally(() => over.abort());
    return { child, readyMs: undefined, ended, over };
  }

  /** Starts the member again. @returns undefined when the fleet is stopping. */
  async #respawn(): Promise<Run | undefined> {
    const failed = await this.#member.prepare?.().then(() => undefined, errorMessage);
    if (this.#stopping.signal.aborted) {
      return undefined;
    }
    if (failed !== undefined) {
      return { child: undefined, readyMs: undefined, ended: Promise.resolve(failed), over: new AbortController() };
    }
    const run = this.#spawn();
    this.#watchReadiness(run);
    return run;
  }

  async #keepRunning(first: Run): Promise<void> {
    const { log, onFailed } = this.#options;
    const { name } = this.#member;
    let run: Run | undefined = first;
    run.readyMs = performance.now();
    while (run !== undefined) {
      const ending = await run.ended;
      this.#process = undefined;
      if (this.#stopping.signal.aborted) {
        return;
      }
      const decision = this.#deaths.add(run.readyMs === undefined ? 0 : performance.now() - run.readyMs);
      if ("failed" in decision) {
        log.error({ member: name, ending }, "member keeps dying, giving it up");
        onFailed(name);
        return;
      }
      log.warn({ member: name, ending, restartAfterMs: decision.restartAfterMs }, "member died, restarting it");
      await delay(decision.restartAfterMs, undefined, { signal: this.#stopping.signal }).catch(() => undefined);
      run = this.#stopping.signal.aborted ? undefined : await this.#respawn();
    }
  }

  /** Notes when a restarted member serves. One that never does is killed, which counts as a death. */
  #watchReadiness(run: Run): void {
    const { log } = this.#options;
    const { name } = this.#member;
    this.#member.awaitReady(AbortSignal.any([this.#stopping.signal, run.over.signal])).then(
      () => {
        run.readyMs = performance.now();
        log.info({ member: name, pid: run.child?.pid }, "member is ready again");
      },
      (error: unknown) => {
        if (!this.#stopping.signal.aborted && !run.over.signal.aborted) {
          log.warn({ member: name, err: error }, "restarted member is not ready, killing it");
          run.child?.kill("SIGKILL");
        }
      },
    );
  }
}

/** One life of a member. */
interface Run {
  /** Undefined when it could not even be prepared. */
  readonly child: ReturnType<typeof spawnMember> | undefined;
  /** When it was ready. */
  readyMs: number | undefined;
  /** Resolves to how it ended. */
  readonly ended: Promise<string>;
  /** Aborted when it has ended. */
  readonly over: AbortController;
}

function spawnMember(member: Member) {
  return execa("setpriv", ["--pdeathsig", "KILL", member.command, ...member.args], {
    env: { ...member.env },
    stdin: "ignore",
    stdout: "inherit",
    stderr: "inherit",
    detached: true,
    reject: false,
    cleanup: false,
  });
}

async function describeEnd(child: ReturnType<typeof spawnMember>): Promise<string> {
  try {
    const { exitCode, signal } = await child;
    return signal === undefined ? `exit status ${exitCode}` : `signal ${signal}`;
  } catch (error) {
    return errorMessage(error);
  }
}
