import { ErrorKind, failure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import type { ProcessName } from "#fleet/process-name.ts";
import { onDemandProcesses } from "#fleet/startup.ts";
import type { MemberState } from "#fleet/supervisor.ts";
import type { Fleet } from "#gen/flotilla/fleet/v1/fleet_pb.ts";
import type { Handlers } from "#wire/handler.ts";
import type { RelayCounts } from "../relay/relay-counts.ts";

export interface FleetServiceOptions {
  /** Sees to it that a process comes up which runs on demand. */
  readonly wake: (name: ProcessName) => void;
  /** The processes besides the gateway, in the order of their start. */
  readonly processes: readonly ProcessName[];
  /** What has become of each process that the gateway runs; none when a service manager does. */
  readonly members: () => readonly MemberState[];
  readonly relay: RelayCounts;
  /** Calls under way, by process. */
  readonly calls: () => ReadonlyMap<string, number>;
}

/**
 * Answers `flotilla.fleet.v1.Fleet`, by which processes of the fleet reach a peer that runs on demand, and the program's commands learn how the fleet is.
 */
export function fleetHandlers({ wake, processes, members, relay, calls }: FleetServiceOptions): Handlers<typeof Fleet> {
  return {
    status: () => {
      const underWay = calls();
      const states = members();
      return {
        gateway: {
          name: "gateway",
          pid: process.pid,
          residentBytes: BigInt(process.memoryUsage().rss),
          startedMs: BigInt(Math.round(performance.timeOrigin)),
        },
        processes: processes.map((name) => {
          const state = states.find((candidate) => candidate.name === name);
          return {
            name,
            pid: state?.pid ?? 0,
            restarts: state?.restarts ?? 0,
            givenUp: state?.isGivenUp ?? false,
            onDemand: onDemandProcesses.has(name),
            calls: underWay.get(name) ?? 0,
            supervised: state !== undefined,
          };
        }),
        connections: relay.connections,
        held: BigInt(relay.held),
        replayed: BigInt(relay.replayed),
        refused: BigInt(relay.refusedUnknown + relay.refusedDenied + relay.refusedUnavailable),
      };
    },
    wake: ({ process: wanted }) => {
      const name = [...onDemandProcesses].find((candidate) => candidate === wanted);
      if (name === undefined) {
        throw failure(ErrorKind.NotFound, `no process ${quote(wanted)} that runs on demand`);
      }
      wake(name);
      return {};
    },
  };
}
