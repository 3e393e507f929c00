import { createClient } from "@connectrpc/connect";
import { errorMessage } from "#base/errors.ts";
import { type ProcessState, processState } from "#fleet/debug/process-state.ts";
import { profilePieces } from "#fleet/debug/profile-pieces.ts";
import type { Logger } from "#fleet/log.ts";
import { type ProcessName, privateSocketOf } from "#fleet/process-name.ts";
import { Member, type ProfileRequest } from "#gen/flotilla/fleet/v1/fleet_pb.ts";
import { connectRpc } from "#wire/client.ts";
import type { CallUnderWay } from "#wire/observe.ts";

/** How long a process may take to tell its state. */
const dumpMsMax = 5_000;
/** How much longer than asked for a profile may take. */
const profileMsMore = 30_000;

export interface FleetStateOptions {
  readonly state: string;
  /** The processes besides the gateway. */
  readonly processes: readonly ProcessName[];
  /** The calls that the gateway passes on or answers. */
  readonly calls: () => readonly CallUnderWay[];
}

/** A process that does not tell its state: it does not run, as one on demand, or it is stuck. */
export interface SilentProcess {
  readonly process: ProcessName;
  readonly error: string;
}

/** What to watch, and for how long. */
export type WantedProfile = Pick<ProfileRequest, "kind" | "seconds" | "format">;

/** What each process of the fleet is doing, asked for by its name. */
export class FleetState {
  readonly #options: FleetStateOptions;

  constructor(options: FleetStateOptions) {
    this.#options = options;
  }

  get names(): readonly ProcessName[] {
    return ["gateway", ...this.#options.processes];
  }

  /** The state of every process. */
  async all(): Promise<readonly (ProcessState | SilentProcess)[]> {
    const { processes, calls } = this.#options;
    const told = processes.map((name) => this.#dump(name).catch((error: unknown) => silent(name, error)));
    return [processState("gateway", calls()), ...(await Promise.all(told))];
  }

  /** Tells the log what each process is doing, in an entry for each. */
  async tell(log: Logger): Promise<void> {
    for (const state of await this.all()) {
      log.info({ state }, `state of process ${state.process}`);
    }
  }

  /** A profile of one process, in pieces. @throws {@link FlotillaError} what the process says, or `unavailable`. */
  async *profile(name: ProcessName, wanted: WantedProfile, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    if (name === "gateway") {
      for await (const { piece } of profilePieces(wanted, signal)) {
        yield piece;
      }
      return;
    }
    const connection = this.#connect(name);
    try {
      const timeoutMs = wanted.seconds * 1000 + profileMsMore;
      for await (const { piece } of createClient(Member, connection.transport).profile(wanted, { signal, timeoutMs })) {
        yield piece;
      }
    } finally {
      connection.close();
    }
  }

  async #dump(name: ProcessName): Promise<ProcessState> {
    const connection = this.#connect(name);
    try {
      const { state } = await createClient(Member, connection.transport).dump({}, { timeoutMs: dumpMsMax });
      return JSON.parse(state) as ProcessState;
    } finally {
      connection.close();
    }
  }

  /** A process on demand is not started to be asked. */
  #connect(name: ProcessName): ReturnType<typeof connectRpc> {
    return connectRpc(privateSocketOf(this.#options.state, name), { heldMsMax: 0 });
  }
}

function silent(process: ProcessName, error: unknown): SilentProcess {
  return { process, error: errorMessage(error) };
}
