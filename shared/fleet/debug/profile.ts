import type { HeapProfiler, Session as InspectorSession, Profiler } from "node:inspector/promises";
import { setTimeout as delay } from "node:timers/promises";
import { ErrorKind, failure } from "#base/errors.ts";

/** What can be told of where a process spends its time or its memory. */
export const profileKinds = ["cpu", "heap"] as const;
export type ProfileKind = (typeof profileKinds)[number];

/** Longest profile, in seconds. */
export const profileSecondsMax = 300;

/** Bytes between two allocations that are noted. @source V8 inspector protocol, HeapProfiler.startSampling, `samplingInterval` */
const heapSampleBytes = 32_768;

export type Profile =
  | { readonly kind: "cpu"; readonly profile: Profiler.Profile }
  | { readonly kind: "heap"; readonly profile: HeapProfiler.SamplingHeapProfile };

let isProfiling = false;

/**
 * Watches this process for some seconds: where it spends its time, or what it has allocated and still holds.
 *
 * The inspector is loaded only now, within the process; nobody can connect to it.
 *
 * @throws {@link FlotillaError} `invalid_argument` for a time out of range, `unavailable` while another profile is being made.
 */
export async function takeProfile(kind: ProfileKind, seconds: number, signal: AbortSignal): Promise<Profile> {
  if (!(seconds > 0 && seconds <= profileSecondsMax)) {
    throw failure(ErrorKind.InvalidArgument, `a profile takes at most ${profileSecondsMax} seconds`);
  }
  if (isProfiling) {
    throw failure(ErrorKind.Unavailable, "another profile of the process is being made");
  }
  isProfiling = true;
  const { Session } = await import("node:inspector/promises");
  const session = new Session();
  try {
    session.connect();
    return kind === "cpu" ? await sampleTime(session, seconds, signal) : await sampleHeap(session, seconds, signal);
  } finally {
    session.disconnect();
    isProfiling = false;
  }
}

async function sampleTime(session: InspectorSession, seconds: number, signal: AbortSignal): Promise<Profile> {
  await session.post("Profiler.enable");
  await session.post("Profiler.start");
  await pause(seconds, signal);
  const { profile } = await session.post("Profiler.stop");
  return { kind: "cpu", profile };
}

async function sampleHeap(session: InspectorSession, seconds: number, signal: AbortSignal): Promise<Profile> {
  await session.post("HeapProfiler.startSampling", { samplingInterval: heapSampleBytes });
  await pause(seconds, signal);
  const { profile } = await session.post("HeapProfiler.stopSampling");
  return { kind: "heap", profile };
}

/** Whoever goes away gets what there is, which nobody reads then. */
async function pause(seconds: number, signal: AbortSignal): Promise<void> {
  await delay(seconds * 1000, undefined, { signal }).catch(() => undefined);
}
