import type { CallUnderWay } from "#wire/observe.ts";

/** Calls that are told of one by one; more than that say nothing more. */
const callsMax = 256;

/** What a process is doing. */
export interface ProcessState {
  readonly process: string;
  readonly pid: number;
  readonly upSeconds: number;
  readonly memory: { readonly rssBytes: number; readonly heapBytes: number; readonly externalBytes: number };
  /** How many there are of each kind of what keeps its event loop alive. */
  readonly handles: Readonly<Record<string, number>>;
  /** The calls that it answers, oldest first. */
  readonly calls: readonly { readonly rpc: string; readonly ageSeconds: number }[];
  /** How many calls are under way, those that are left out among them. */
  readonly callCount: number;
}

/** What this process is doing. */
export function processState(name: string, calls: readonly CallUnderWay[]): ProcessState {
  const { rss, heapUsed, external } = process.memoryUsage();
  const nowMs = performance.now();
  const handles: Record<string, number> = {};
  for (const kind of process.getActiveResourcesInfo()) {
    handles[kind] = (handles[kind] ?? 0) + 1;
  }
  const oldest = calls.toSorted((a, b) => a.beganMs - b.beganMs).slice(0, callsMax);
  return {
    process: name,
    pid: process.pid,
    upSeconds: round(nowMs),
    memory: { rssBytes: rss, heapBytes: heapUsed, externalBytes: external },
    handles,
    calls: oldest.map(({ rpc, beganMs }) => ({ rpc, ageSeconds: round(nowMs - beganMs) })),
    callCount: calls.length,
  };
}

function round(ms: number): number {
  return Math.round(ms) / 1000;
}
