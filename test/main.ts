import { randomInt } from "node:crypto";
import { globSync, readFileSync } from "node:fs";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { fileURLToPath } from "node:url";

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
  /** Files run at a time. What starts whole daemons runs alone, so that the machine's speed decides nothing. */
  readonly concurrency: number;
  readonly fileMsMax: number;
  /** Takes a new seed, and runs only when it is named. */
  readonly explores?: boolean;
}

const fixedSeed = 20_261_127;
/** What the files that choose something at random say. */
const choosesAtRandom = /fast-check|seededRandom/;
const minuteMs = 60_000;

const stages: readonly Stage[] = [
  { name: "tidy", files: ["test/tidy/*.test.ts"], concurrency: 2, fileMsMax: 3 * minuteMs },
  { name: "unit", files: ["shared/**/*.test.ts", "services/**/*.test.ts"], concurrency: 2, fileMsMax: 3 * minuteMs },
  { name: "component", files: ["test/component/*.test.ts"], concurrency: 2, fileMsMax: 4 * minuteMs },
  { name: "e2e", files: ["test/e2e/*.test.ts"], concurrency: 1, fileMsMax: 5 * minuteMs },
  { name: "fault", files: ["test/fault/*.test.ts"], concurrency: 1, fileMsMax: 5 * minuteMs },
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

async function runStage(stage: Stage, totals: Totals): Promise<void> {
  const files = globSync([...stage.files])
    .filter((file) => stage.explores !== true || choosesAtRandom.test(readFileSync(file, "utf8")))
    .sort();
  if (files.length === 0) {
    throw new Error(`stage ${stage.name} has no tests`);
  }
  const seed = process.env["FLOTILLA_TEST_SEED"] ?? String(stage.explores === true ? randomInt(2 ** 31) : fixedSeed);
  process.stdout.write(`\n# ${stage.name}: ${files.length} files, FLOTILLA_TEST_SEED=${seed}\n`);
  const results = run({
    files,
    concurrency: stage.concurrency,
    timeout: stage.fileMsMax,
    execArgv: ["--import", fileURLToPath(new URL("./kit/fixed-seed.ts", import.meta.url))],
    env: { ...process.env, FLOTILLA_TEST_SEED: seed },
  });
  results.on("test:summary", ({ file, counts }) => {
    if (file === undefined) {
      totals.passed += counts.passed;
      totals.failed += counts.tests - counts.passed - counts.skipped - counts.todo;
      totals.skipped += counts.skipped;
    }
  });
  for await (const chunk of results.compose(spec)) {
    process.stdout.write(chunk as string);
  }
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
