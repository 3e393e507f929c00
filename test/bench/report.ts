import { mkdir, readFile, writeFile } from "node:fs/promises";
import { isReached, type Measurement, ratiosOf, type Spread, spreadOf, type Target } from "./measurement.ts";

const readme = new URL("./README.md", import.meta.url);
const results = new URL("./results/", import.meta.url);

const begin = "<!-- table: begin -->";
const end = "<!-- table: end -->";
const columns = ["what", "target", "Flotilla", "containerd", "ratio (min–max)", "reached", "day, load before"] as const;

/** What was measured, and the load of the machine before it, which says how far to trust it. */
export type LoadedMeasurement = Measurement & { readonly load: number };

/** A run of some benches. */
export interface Report {
  /** Day, as `2026-08-12`. */
  readonly date: string;
  readonly machine: string;
  readonly measurements: readonly LoadedMeasurement[];
}

/** Keeps every sample of a run as JSON. @returns Where. */
export async function writeResults(report: Report, time: Date): Promise<URL> {
  await mkdir(results, { recursive: true });
  const file = new URL(`${time.toISOString().replaceAll(":", "-")}.json`, results);
  await writeFile(file, `${JSON.stringify(report, undefined, 2)}\n`);
  return file;
}

/** Puts what was measured into the table of the README. Rows that were not measured this time stay. */
export async function updateReadme(report: Report): Promise<void> {
  const text = await readFile(readme, "utf8");
  const [before, table, after] = splitAtMarkers(text);
  await writeFile(readme, `${before}${begin}\n${renderTable(report, table)}\n${end}${after}`);
}

function splitAtMarkers(text: string): [before: string, table: string, after: string] {
  const from = text.indexOf(begin);
  const to = text.indexOf(end);
  if (from === -1 || to < from) {
    throw new Error(`README.md lacks ${begin} … ${end}`);
  }
  return [text.slice(0, from), text.slice(from + begin.length, to), text.slice(to + end.length)];
}

/**
 * The table with the rows of a report in place of its rows of the same name.
 *
 * @param table - The table as it was, or any text without one.
 */
export function renderTable({ date, machine, measurements }: Report, table: string): string {
  const rows = new Map<string, string>();
  for (const line of table.split("\n")) {
    const name = /^\| ([^|]+?) \|/.exec(line)?.[1];
    if (name !== undefined && name !== columns[0] && !/^-+$/.test(name)) {
      rows.set(name, line);
    }
  }
  for (const measurement of measurements) {
    rows.set(measurement.what, renderRow(measurement, date));
  }
  const header = [`| ${columns.join(" | ")} |`, `| ${columns.map(() => "---").join(" | ")} |`];
  return ["", `Last run on ${machine}.`, "", ...header, ...rows.values(), ""].join("\n");
}

function renderRow(measurement: LoadedMeasurement, date: string): string {
  const { what, unit, samples } = measurement;
  const ratio = spreadOf(ratiosOf(measurement));
  const reached = isReached(measurement);
  const cells = [
    what,
    renderTarget(measurement),
    `${round(spreadOf(samples.flotilla).median)} ${unit}`,
    `${round(spreadOf(samples.containerd).median)} ${unit}`,
    renderSpread(ratio),
    reached === undefined ? "" : reached ? "yes" : "no",
    `${date}, ${measurement.load.toFixed(1)}`,
  ];
  return `| ${cells.join(" | ")} |`;
}

function renderTarget({ target, better, unit }: Measurement): string {
  return target === undefined ? "" : `${better === "higher" ? "≥" : "≤"} ${renderBound(target, unit)}`;
}

function renderBound({ kind, bound }: Target, unit: string): string {
  return kind === "ratio" ? `${bound} ×` : `${bound.toLocaleString("en")} ${unit}`;
}

function renderSpread({ median, min, max }: Spread): string {
  return `${round(median)} (${round(min)}–${round(max)})`;
}

function round(value: number): string {
  return value >= 100 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(2)));
}
