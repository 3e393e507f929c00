import { alignColumns } from "./columns.ts";
import type { ProcessReport, StatusReport } from "./status-report.ts";

/** Lays a report out for people. @param nowMs - Milliseconds since 1970. */
export function formatStatus({ processes, events, relay, failedPlugins }: StatusReport, nowMs: number): string {
  const rows = [
    ["PROCESS", "HEALTH", "PID", "RESTARTS", "MEMORY", "RUNNING", "CALLS"],
    ...processes.map((process) => rowOf(process, nowMs)),
  ];
  const lag = events.lag === null ? "not known" : `${events.lag} behind the stream`;
  const waiting =
    events.waiting === null || events.waiting === 0
      ? "none waits to be published"
      : `${events.waiting} wait to be published, the oldest for ${Math.round(events.waitingSeconds ?? 0)} s`;
  return [
    ...alignColumns(rows),
    "",
    `events: ${waiting}; ${events.subscribers ?? 0} subscribers, the slowest ${lag}`,
    `relay: ${relay.connections} connections; ${relay.held} calls held, ${relay.replayed} sent again, ${relay.refused} refused`,
    failedPlugins.length === 0 ? "plugins: none has failed" : "plugins that have failed:",
    ...failedPlugins.map(({ plugin, reason }) => `  ${plugin}: ${reason}`),
  ].join("\n");
}

function rowOf(
  { name, health, pid, restarts, residentBytes, startedMs, calls }: ProcessReport,
  nowMs: number,
): string[] {
  return [
    name,
    health,
    String(pid ?? "-"),
    String(restarts ?? "-"),
    residentBytes === null ? "-" : `${(residentBytes / 1024 ** 2).toFixed(1)} MiB`,
    startedMs === null ? "-" : formatAge(nowMs - startedMs),
    String(calls),
  ];
}

function formatAge(ageMs: number): string {
  const seconds = Math.max(0, Math.floor(ageMs / 1000));
  const units = [
    [86_400, "d"],
    [3_600, "h"],
    [60, "m"],
    [1, "s"],
  ] as const;
  const at = units.findIndex(([length]) => seconds >= length);
  const [length, unit] = units[at] ?? [1, "s"];
  const [below, belowUnit] = units[at + 1] ?? [0, ""];
  const rest = below === 0 ? 0 : Math.floor((seconds % length) / below);
  return `${Math.floor(seconds / length)}${unit}${rest === 0 ? "" : `${rest}${belowUnit}`}`;
}
