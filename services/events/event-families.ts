import { FamilyBuilder, type MetricFamily } from "#fleet/metrics/family.ts";
import type { BusState } from "./bus/jetstream.ts";

/** What the event stream carries, and what waits before and behind it. */
export function eventFamilies(bus: BusState, spoolBytes: number): MetricFamily[] {
  return [
    new FamilyBuilder("counter", "flotilla_events_taken_total", "Events that the stream has taken.").add({}, bus.taken),
    new FamilyBuilder("gauge", "flotilla_events_waiting", "Events that the stream has not answered for yet.").add(
      {},
      bus.waiting,
    ),
    new FamilyBuilder("gauge", "flotilla_events_spool_bytes", "Events of shims that wait on disk.").add({}, spoolBytes),
    new FamilyBuilder("gauge", "flotilla_events_subscribers", "Those who follow the events.").add({}, bus.subscribers),
    new FamilyBuilder("gauge", "flotilla_events_lag", "How many events the slowest subscriber is behind.").add(
      {},
      bus.lagMax,
    ),
    new FamilyBuilder("gauge", "flotilla_events_connected", "Whether the stream is there.").add(
      {},
      bus.isConnected ? 1 : 0,
    ),
  ];
}
