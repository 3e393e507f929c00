import { createClient } from "@connectrpc/connect";
import type { Logger } from "#fleet/log.ts";
import { FamilyBuilder, type FamilyKind, type MetricFamily } from "#fleet/metrics/family.ts";
import { type ProcessName, privateSocketOf } from "#fleet/process-name.ts";
import type { MemberState } from "#fleet/supervisor.ts";
import { Member } from "#gen/flotilla/fleet/v1/fleet_pb.ts";
import { connectRpc, type RpcConnection } from "#wire/client.ts";
import { KeptCounters, type Measured } from "./kept-counters.ts";
import { formatFamilies } from "./text-format.ts";

/** How long a process may take to tell its figures: what containers may take to tell theirs, several times. */
const measureMsMax = 8_000;

export interface FleetFiguresOptions {
  readonly state: string;
  /** The processes besides the gateway. */
  readonly processes: readonly ProcessName[];
  readonly log: Logger;
  /** What has become of each process that the gateway runs; none when a service manager does. */
  readonly members: () => readonly MemberState[];
  /** The figures of the gateway itself. */
  readonly own: () => readonly MetricFamily[];
}

/** The figures of the whole fleet, which each process tells of itself. */
export class FleetFigures implements Disposable {
  readonly #options: FleetFiguresOptions;
  readonly #sources: readonly ProcessSource[];
  #scrape: Promise<string> | undefined;

  constructor(options: FleetFiguresOptions) {
    this.#options = options;
    this.#sources = options.processes.map((name) => new ProcessSource(name, options.state));
  }

  [Symbol.dispose](): void {
    for (const source of this.#sources) {
      source.close();
    }
  }

  /** All figures as text. Whoever asks while others wait gets what they get, so that a thousand who ask cost no more than one. */
  text(): Promise<string> {
    this.#scrape ??= this.#collect().finally(() => {
      this.#scrape = undefined;
    });
    return this.#scrape;
  }

  async #collect(): Promise<string> {
    const { log, own, members } = this.#options;
    const up = new FamilyBuilder("gauge", "flotilla_process_up", "Whether a process tells its figures.");
    up.add({ process: "gateway" }, 1);
    const told = await Promise.all(
      this.#sources.map(async (source) => {
        try {
          const families = await source.measure();
          up.add({ process: source.name }, 1);
          return families;
        } catch (error) {
          log.debug({ member: source.name, err: error }, "a process does not tell its figures");
          up.add({ process: source.name }, 0);
          return source.resting();
        }
      }),
    );
    const restarts = new FamilyBuilder(
      "counter",
      "flotilla_process_restarts_total",
      "How often a process was started again after it had died.",
    );
    for (const { name, restarts: count } of members()) {
      restarts.add({ process: name }, count);
    }
    return formatFamilies([...own(), up, restarts, ...told.flat()]);
  }
}

class ProcessSource {
  readonly name: ProcessName;
  readonly #connection: RpcConnection;
  readonly #counters = new KeptCounters();

  constructor(name: ProcessName, state: string) {
    this.name = name;
    // A process on demand that does not run is not started to be asked.
    this.#connection = connectRpc(privateSocketOf(state, name), { heldMsMax: 0 });
  }

  async measure(): Promise<readonly MetricFamily[]> {
    const client = createClient(Member, this.#connection.transport);
    const { incarnation, families } = await client.measure({}, { timeoutMs: measureMsMax });
    const measured: Measured = {
      incarnation,
      families: families.map((family) => ({ ...family, kind: family.kind as FamilyKind })),
    };
    return this.#counters.add(measured);
  }

  resting(): readonly MetricFamily[] {
    return this.#counters.resting();
  }

  close(): void {
    this.#connection.close();
  }
}
