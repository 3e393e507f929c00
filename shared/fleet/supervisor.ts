import { setTimeout as delay } from "node:timers/promises";
import { ErrorKind, errorMessage, failure } from "#base/errors.ts";
import { type Child, endedWell, type Program, startChild } from "./child.ts";
import type { Logger } from "./log.ts";
import { DeathRecord, type RestartPolicy } from "./restart-policy.ts";

/** A program that a process of ours owns. */
export interface Member extends Program {
  readonly name: string;
  /** Called before each start. What it throws counts as a death of the member. */
  prepare?(): Promise<void>;
  /**
   * Resolves when the process serves; rejects when it does not in time, or when the signal aborts.
   *
   * @param told - Resolves to what the process has told its owner, see {@link Child.told}.
   */
  awaitReady(signal: AbortSignal, told: Promise<Buffer>): Promise<void>;
}

export interface SupervisorOptions {
  readonly policy: RestartPolicy;
  readonly log: Logger;
  /** Aborts the wait for members that are being started for the first time. */
  readonly interrupted: AbortSignal;
  /** Told when a member has used its budget of restarts up. It is not started again. */
  readonly onFailed: (name: string) => void;
}

/** What has become of a member. */
export interface MemberState {
  readonly name: string;
  /** Undefined when it does not run. */
  readonly pid: number | undefined;
  /** How often it was started again after it had died. */
  readonly restarts: number;
  /** Whether it is not started any more. */
  readonly isGivenUp: boolean;
}

/** How long a member may take to stop before it is killed. */
const stopMsMax = 12_000;

/**
 * Starts members, restarts those that die, and stops them. Members on demand are started when somebody wants them, and may end by themselves
 * when nobody does.
 *
 * Every member runs in a session of its own and is killed by the kernel when its owner dies: members are built to be killed at any time,
 * and a new owner must not meet the old ones.
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
    await this.#add(member).start();
  }

  /**
   * Takes a member on demand over, without starting it.
   *
   * @throws {@link FlotillaError} `unavailable` when the supervisor has been stopped.
   */
  keepReady(member: Member): void {
    this.#add(member);
  }

  /**
   * Starts a member on demand that does not run. Does nothing for one that runs, is being started, has just died (it is started after the wait
   * that its death is followed by, if it is wanted then), or was given up; whoever wants a member goes on asking until it answers.
   */
  wake(name: string): void {
    if (!this.#isStopped) {
      this.#watches.find((watch) => watch.name === name)?.wake();
    }
  }

  /** Stops the members one after the other, the last started first. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const watch of this.#watches.toReversed()) {
      await watch.stop();
    }
  }

  /** What has become of each member, in the order in which they were started. */
  states(): MemberState[] {
    return this.#watches.map((watch) => watch.state());
  }

  /** Process id of a member that is running. */
  pidOf(name: string): number | undefined {
    return this.#watches.find((watch) => watch.name === name)?.pid;
  }

  #add(member: Member): Watch {
    if (this.#isStopped) {
      throw failure(ErrorKind.Unavailable, `${member.name} is not started, since the fleet is stopping`);
    }
    const watch = new Watch(member, this.#options);
    this.#watches.push(watch);
    return watch;
  }
}

class Watch {
  readonly #member: Member;
  readonly #options: SupervisorOptions;
  readonly #deaths: DeathRecord;
  readonly #stopping = new AbortController();
  #child: Child | undefined;
  /** Resolves when nothing runs and nothing is started again; undefined while that is so. */
  #service: Promise<void> | undefined;
  #isGivenUp = false;
  #restarts = 0;

  constructor(member: Member, options: SupervisorOptions) {
    this.#member = member;
    this.#options = options;
    this.#deaths = new DeathRecord(options.policy);
  }

  get name(): string {
    return this.#member.name;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  state(): MemberState {
    return { name: this.name, pid: this.pid, restarts: this.#restarts, isGivenUp: this.#isGivenUp };
  }

  async start(): Promise<void> {
    await this.#member.prepare?.();
    if (this.#stopping.signal.aborted) {
      throw failure(ErrorKind.Unavailable, `${this.name} is not started, since its owner is stopping`);
    }
    const run = this.#spawn();
    const interrupted = AbortSignal.any([this.#stopping.signal, this.#options.interrupted, run.over.signal]);
    const ready = this.#member.awaitReady(interrupted, run.told).then(() => "ready" as const);
    const outcome = await Promise.race([ready, run.ended]);
    if (outcome !== "ready") {
      ready.catch(() => undefined);
      throw failure(ErrorKind.Unavailable, `${this.name} ended during its start (${outcome})`);
    }
    run.readyMs = performance.now();
    this.#service = this.#keepRunning(run);
  }

  wake(): void {
    if (!this.#isGivenUp) {
      this.#service ??= this.#serveDemand().finally(() => {
        this.#service = undefined;
      });
    }
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#child?.kill("SIGTERM");
    const killer = setTimeout(() => {
      this.#options.log.warn({ member: this.name, pid: this.pid }, "member did not stop in time, killing it");
      this.#child?.kill("SIGKILL");
    }, stopMsMax);
    await this.#child?.ended;
    await this.#service;
    this.#child = undefined;
    clearTimeout(killer);
  }

  #spawn(): Run {
    const child = startChild(this.#member);
    this.#child = child;
    this.#options.log.debug({ member: this.name, pid: child.pid }, "started member");
    const over = new AbortController();
    const ended = child.ended.finally(() => {
      over.abort();
      this.#child = undefined;
    });
    return { child, told: child.told, readyMs: undefined, ended, over };
  }

  /** Starts the member while others are served. @returns undefined when the fleet is stopping. */
  async #respawn(): Promise<Run | undefined> {
    const failed = await this.#member.prepare?.().then(() => undefined, errorMessage);
    if (this.#stopping.signal.aborted) {
      return undefined;
    }
    if (failed !== undefined) {
      return {
        child: undefined,
        told: Promise.resolve(Buffer.alloc(0)),
        readyMs: undefined,
        ended: Promise.resolve(failed),
        over: new AbortController(),
      };
    }
    const run = this.#spawn();
    this.#watchReadiness(run);
    return run;
  }

  async #keepRunning(first: Run): Promise<void> {
    let run: Run | undefined = first;
    while (run !== undefined) {
      const ending: string = await run.ended;
      run = (await this.#outliveDeath(run, ending)) ? await this.#respawn() : undefined;
    }
  }

  /** One life of a member on demand, and the wait after its death. */
  async #serveDemand(): Promise<void> {
    const run = await this.#respawn();
    const ending = await run?.ended;
    if (run !== undefined && ending !== undefined) {
      if (ending === endedWell) {
        this.#options.log.debug({ member: this.name }, "member on demand has ended, since nobody wanted it");
      } else {
        await this.#outliveDeath(run, ending);
      }
    }
  }

  /** Counts a death and waits as the policy says. @returns whether the member may be started again. */
  async #outliveDeath(run: Run, ending: string): Promise<boolean> {
    const { log, onFailed } = this.#options;
    if (this.#stopping.signal.aborted) {
      return false;
    }
    const decision = this.#deaths.add(run.readyMs === undefined ? 0 : performance.now() - run.readyMs);
    if ("failed" in decision) {
      log.error({ member: this.name, ending }, "member keeps dying, giving it up");
      this.#isGivenUp = true;
      onFailed(this.name);
      return false;
    }
    const { restartAfterMs } = decision;
    this.#restarts += 1;
    log.warn({ member: this.name, ending, restartAfterMs }, "member died, restarting it");
    await delay(restartAfterMs, undefined, { signal: this.#stopping.signal }).catch(() => undefined);
    return !this.#stopping.signal.aborted;
  }

  /** Notes when a member that was started while others are served is ready. One that never is gets killed, which counts as a death. */
  #watchReadiness(run: Run): void {
    const { log } = this.#options;
    this.#member.awaitReady(AbortSignal.any([this.#stopping.signal, run.over.signal]), run.told).then(
      () => {
        run.readyMs = performance.now();
        log.info({ member: this.name, pid: run.child?.pid }, "member is ready again");
      },
      (error: unknown) => {
        if (!this.#stopping.signal.aborted && !run.over.signal.aborted) {
          log.warn({ member: this.name, err: error }, "restarted member is not ready, killing it");
          run.child?.kill("SIGKILL");
        }
      },
    );
  }
}

/** One life of a member. */
interface Run {
  /** Undefined when it could not even be prepared. */
  readonly child: Child | undefined;
  readonly told: Promise<Buffer>;
  /** When it was ready. */
  readyMs: number | undefined;
  /** Resolves to how it ended. */
  readonly ended: Promise<string>;
  /** Aborted when it has ended. */
  readonly over: AbortController;
}
