import { availableParallelism, loadavg } from "node:os";
import { applyBench } from "./apply.bench.ts";
import { bootBench } from "./boot.bench.ts";
import { eventsBench } from "./events.bench.ts";
import { lifecycleBench } from "./lifecycle.bench.ts";
import { describeMachine } from "./machine.ts";
import { memoryBench } from "./memory.bench.ts";
import { say } from "./progress.ts";
import { pullBench } from "./pull.bench.ts";
import { type LoadedMeasurement, updateReadme, writeResults } from "./report.ts";
import { rpcBench } from "./rpc.bench.ts";

/**
 * Measures Flotilla beside Debian's containerd, in one run, by turns.
 *
 *   node test/bench/main.ts [NAME...]     rpc lifecycle pull apply memory boot events
 *
 * Needs root. Samples go to `results/`, the table of README.md gets the rows that were measured.
 */
const benches = [rpcBench, lifecycleBench, pullBench, applyBench, memoryBench, bootBench, eventsBench];

const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !benches.some((bench) => bench.name === name));
if (unknown.length > 0) {
  process.stderr.write(
    `no bench named ${unknown.join(", ")}; there are ${benches.map(({ name }) => name).join(", ")}\n`,
  );
  process.exit(2);
}
const time = new Date();
const machine = await describeMachine();
const measurements: LoadedMeasurement[] = [];
for (const bench of benches.filter(({ name }) => wanted.length === 0 || wanted.includes(name))) {
  const [load = 0] = loadavg();
  say(bench.name);
  if (load > availableParallelism() / 2) {
    say(`the machine is busy (load ${load.toFixed(1)}): ratios hold better than values`);
  }
  measurements.push(...(await bench.run()).map((measurement) => ({ ...measurement, load })));
  const report = { date: time.toISOString().slice(0, 10), machine, measurements };
  const file = await writeResults(report, time);
  await updateReadme(report);
  say(`samples in ${file.pathname}`);
}
