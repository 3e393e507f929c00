import { randomInt } from "node:crypto";
import { globSync, readFileSync } from "node:fs";
import { basename } from "node:path";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { fileURLToPath } from "node:url";
import { compiledCode } from "./kit/compiled-code.ts";

/**
 * Runs the stages of the test suite one after the other and prints the sum of their results as the last line.
 *
 *   node test/main.ts [STAGE...]     tidy unit component e2e fault; by name alone: explore
 *
 * What is chosen at random comes from one seed, which is printed: the same in every run, so that a run tells of the code and not of
 * luck, unless FLOTILLA_TEST_SEED gives another one. The stage `explore` takes a new one each time.
 */

interface Stage {
  readonly name: string;
  readonly files: readonly string[];
  /** Files that take longest, begun before all others, so that none of them is left to run alone at the end. */
  readonly first?: readonly string[];
  /** Files run at a time. What starts daemons waits for most of its time, so that there are more of it than processors. */
  readonly concurrency: number;
  readonly fileMsMax: number;
  /** Takes a new seed, and runs only when it is named. */
  readonly explores?: boolean;
}

const fixedSeed = 20_261_127;
/** What the files that choose something at random say. */
const choosesAtRandom = /fast-check|seededRandom/;
const minuteMs = 60_000;
/** Files that are named at the end of a stage. */
const longestMax = 8;

const stages: readonly Stage[] = [
  { name: "tidy", files: ["test/tidy/*.test.ts"], concurrency: 2, fileMsMax: 3 * minuteMs },
  { name: "unit", files: ["shared/**/*.test.ts", "services/**/*.test.ts"], concurrency: 2, fileMsMax: 3 * minuteMs },
  {
    name: "component",
    files: ["test/component/*.test.ts"],
    first: ["layers-corpus", "snapshots-drivers", "tasks-shim", "launcher", "cli"],
    concurrency: 3,
    fileMsMax: 5 * minuteMs,
  },
  {
    name: "e2e",
    files: ["test/e2e/*.test.ts"],
    first: ["containerd-client", "images", "transfer-crashes", "units", "hostile", "compose"],
    concurrency: 2,
    fileMsMax: 8 * minuteMs,
  },
  { name: "fault", files: ["test/fault/*.test.ts"], first: ["chaos"], concurrency: 2, fileMsMax: 5 * minuteMs },
  {
    name: "explore",
    files: ["shared/**/*.test.ts", "services/**/*.test.ts", "test/component/*.test.ts", "test/fault/*.test.ts"],
    concurrency: 1,
    fileMsMax: 5 * minuteMs,
    explores: true,
  },
];

interface Totals {
  passed: number;
  failed: number;
  skipped: number;
}

/** In the order in which they are begun. @throws Error when there is none, or not one that is to be the first. */
function filesOf({ name, files, first = [], explores = false }: Stage): string[] {
  const all = globSync([...files])
    .filter((file) => !explores || choosesAtRandom.test(readFileSync(file, "utf8")))
    .sort();
  const early = first.map((file) => `test/${name}/${file}.test.ts`);
  const absent = early.filter((file) => !all.includes(file));
  if (all.length === 0 || absent.length > 0) {
    throw new Error(`stage ${name} has no tests ${absent.join(", ")}`);
  }
  return [...early, ...all.filter((file) => !early.includes(file))];
}

async function runStage(stage: Stage, totals: Totals): Promise<void> {
  const files = filesOf(stage);
  const seed = process.env["FLOTILLA_TEST_SEED"] ?? String(stage.explores === true ? randomInt(2 ** 31) : fixedSeed);
  process.stdout.write(`\n# ${stage.name}: ${files.length} files, FLOTILLA_TEST_SEED=${seed}\n`);
  const results = run({
    files,
    concurrency: stage.concurrency,
    timeout: stage.fileMsMax,
    execArgv: ["--import", fileURLToPath(new URL("./kit/before-file.ts", import.meta.url))],
    env: { ...process.env, ...compiledCode, FLOTILLA_TEST_SEED: seed },
  });
  const took: { readonly file: string; readonly seconds: number }[] = [];
  results.on("test:summary", ({ file, counts, duration_ms }) => {
    if (file === undefined) {
      totals.passed += counts.passed;
      totals.failed += counts.tests - counts.passed - counts.skipped - counts.todo;
      totals.skipped += counts.skipped;
    } else {
      took.push({ file: basename(file, ".test.ts"), seconds: Math.round(duration_ms / 1000) });
    }
  });
  for await (const chunk of results.compose(spec)) {
    process.stdout.write(chunk as string);
  }
  const longest = took.sort((left, right) => right.seconds - left.seconds).slice(0, longestMax);
  process.stdout.write(`# longest: ${longest.map(({ file, seconds }) => `${file} ${seconds} s`).join(", ")}\n`);
}

const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !stages.some((stage) => stage.name === name));
if (unknown.length > 0) {
  process.stderr.write(
    `no stage named ${unknown.join(", ")}; there are ${stages.map(({ name }) => name).join(", ")}\n`,
  );
  process.exit(2);
}
const totals: Totals = { passed: 0, failed: 0, skipped: 0 };
for (const stage of stages) {
  if (wanted.includes(stage.name) || (wanted.length === 0 && stage.explores !== true)) {
    await runStage(stage, totals);
  }
}
process.stdout.write(`\n${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped\n`);
process.exitCode = totals.failed === 0 ? 0 : 1;
