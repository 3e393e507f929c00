import { nsPerSecond } from "#base/times.ts";
import { FamilyBuilder, type MetricFamily } from "#fleet/metrics/family.ts";
import type { Records } from "./store/records.ts";

/** What waits in the outbox. */
export function outboxFamilies({ outbox, clock }: Records): MetricFamily[] {
  const { count, oldestNs } = outbox.state();
  const waitedSeconds = oldestNs === undefined ? 0 : Number(clock() - oldestNs) / Number(nsPerSecond);
  return [
    new FamilyBuilder("gauge", "flotilla_outbox_events", "Events of records that wait to be published.").add({}, count),
    new FamilyBuilder(
      "gauge",
      "flotilla_outbox_oldest_seconds",
      "How long the oldest event of a record has waited to be published.",
    ).add({}, Math.max(0, waitedSeconds)),
  ];
}
