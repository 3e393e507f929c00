import assert from "node:assert/strict";
import { stripVTControlCharacters } from "node:util";
import type { Daemon } from "../kit/daemon.ts";

/** One command of a scenario: the arguments of `ctr` after its global flags. */
export type Step = readonly string[];

/** What a step printed and how it ended. */
export interface Outcome {
  readonly step: string;
  readonly exitCode: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the steps one after the other, all in one namespace, whatever their outcome. */
export async function runSteps(daemon: Daemon, namespace: string, steps: readonly Step[]): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  for (const step of steps) {
    const { exitCode, stdout, stderr } = await daemon.ctr("-n", namespace, ...step);
    outcomes.push({ step: step.join(" "), exitCode, stdout: normalise(stdout), stderr: normalise(stderr) });
  }
  return outcomes;
}

/**
 * Runs the same steps on both daemons and asserts that they print the same and end the same, times and durations
 * apart.
 *
 * @returns What both printed, step by step.
 */
export async function assertParity(
  { ours, theirs }: { readonly ours: Daemon; readonly theirs: Daemon },
  namespace: string,
  steps: readonly Step[],
): Promise<Outcome[]> {
  const expected = await runSteps(theirs, namespace, steps);
  const actual = await runSteps(ours, namespace, steps);
  assert.deepEqual(actual, expected);
  return actual;
}

/**
 * Replaces what differs between any two runs: times, durations, rates and the order of labels, which `ctr` does not sort; and the names that containerd's
 * snapshotters give to keys (`namespace/number/key`), which it shows in some errors and we do not have.
 */
export function normalise(text: string): string {
  return stripVTControlCharacters(text)
    .replace(/"[^\s"/]+\/\d+\/([^\s"]+)"/g, '"$1"')
    .replace(/[^\s=,]+=[^\s]*,[^\s]+/g, (labels) =>
      labels
        .split(/,(?=[^\s,=]+=)/)
        .sort()
        .join(","),
    )
    .replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)/g, "TIME")
    .replace(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)? \+0000 UTC/g, "TIME")
    .replace(/\b\d+(?:\.\d+)?(?:ns|µs|ms|s)\b/g, "DURATION")
    .replace(/\b(?:\d+ (?:seconds?|minutes?)|less than a second|about a minute)(?: ago)?\b/gi, "AGE")
    .replace(/\b(?:\d+(?:\.\d+)?) ?[KMG]?i?B\/s/g, "RATE")
    .replace(/[ \t]+/g, " ")
    .replace(/ +$/gm, "");
}
