import { ErrorKind, failure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import type { ProcessName } from "#fleet/process-name.ts";
import { onDemandProcesses } from "#fleet/startup.ts";
import type { Fleet } from "#gen/flotilla/fleet/v1/fleet_pb.ts";
import type { Handlers } from "#wire/handler.ts";

/** Answers `flotilla.fleet.v1.Fleet`, by which processes of the fleet reach a peer that runs on demand. */
export function fleetHandlers(wake: (name: ProcessName) => void): Handlers<typeof Fleet> {
  return {
    wake: ({ process }) => {
      const name = [...onDemandProcesses].find((candidate) => candidate === process);
      if (name === undefined) {
        throw failure(ErrorKind.NotFound, `no process ${quote(process)} that runs on demand`);
      }
      wake(name);
      return {};
    },
  };
}
