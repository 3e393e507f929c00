import { FamilyBuilder, type MetricFamily } from "#fleet/metrics/family.ts";
import { Refusal } from "./answer.ts";

/** What relays count, of all sockets together. Plain numbers, since they are counted within calls. */
export class RelayCounts {
  /** Connections of clients that speak HTTP/2. */
  connections = 0;
  /** Calls that had to wait for a process that was not there. */
  held = 0;
  /** Calls that were sent again after their process had died. */
  replayed = 0;
  /** Calls that no process answers. */
  refusedUnknown = 0;
  /** Calls that the policy forbids. */
  refusedDenied = 0;
  /** Calls that were given up because their process did not come back, or had died with them. */
  refusedUnavailable = 0;

  /** Counts a call that the gateway itself has answered. */
  countRefusal(refusal: Refusal): void {
    switch (refusal) {
      case Refusal.Unimplemented:
        this.refusedUnknown += 1;
        return;
      case Refusal.PermissionDenied:
        this.refusedDenied += 1;
        return;
      case Refusal.Unavailable:
        this.refusedUnavailable += 1;
    }
  }

  families(): MetricFamily[] {
    return [
      new FamilyBuilder("gauge", "flotilla_relay_connections", "Connections of clients that speak HTTP/2.").add(
        {},
        this.connections,
      ),
      new FamilyBuilder(
        "counter",
        "flotilla_relay_held_calls_total",
        "Calls that waited for a process that was not there.",
      ).add({}, this.held),
      new FamilyBuilder(
        "counter",
        "flotilla_relay_replayed_calls_total",
        "Calls that were sent again after their process had died.",
      ).add({}, this.replayed),
      new FamilyBuilder("counter", "flotilla_relay_refused_calls_total", "Calls that the gateway itself has refused.")
        .add({ reason: "unknown-method" }, this.refusedUnknown)
        .add({ reason: "denied" }, this.refusedDenied)
        .add({ reason: "unavailable" }, this.refusedUnavailable),
    ];
  }
}
