import { availableParallelism, loadavg } from "node:os";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { applyBench } from "./apply.bench.ts";
import { bootBench } from "./boot.bench.ts";
import { clientsBench } from "./clients.bench.ts";
import { collectionBench } from "./collection.bench.ts";
import { contentBench } from "./content.bench.ts";
import { criBench } from "./cri.bench.ts";
import { eventsBench } from "./events.bench.ts";
import { lifecycleBench } from "./lifecycle.bench.ts";
import { describeMachine } from "./machine.ts";
import { memoryBench } from "./memory.bench.ts";
import { say } from "./progress.ts";
import { pullBench } from "./pull.bench.ts";
import { type LoadedMeasurement, updateReadme, writeResults } from "./report.ts";
import { rpcBench } from "./rpc.bench.ts";
import { snapshotsBench } from "./snapshots.bench.ts";
import { transferBench } from "./transfer.bench.ts";

/**
 * Measures Flotilla beside containerd, in one run, by turns.
 *
 *   node test/bench/main.ts [--containerd DIRECTORY] [NAME...]
 *
 * The directory holds `containerd`, `ctr` and `containerd-shim-runc-v2` that are used instead of the distribution's, by both sides.
 * Needs root. Samples go to `results/`, the table of README.md gets the rows that were measured.
 */
const benches = [
  rpcBench,
  contentBench,
  clientsBench,
  lifecycleBench,
  pullBench,
  transferBench,
  applyBench,
  snapshotsBench,
  collectionBench,
  eventsBench,
  memoryBench,
  criBench,
  bootBench,
];

const { values, positionals: wanted } = parseArgs({
  options: { containerd: { type: "string" } },
  allowPositionals: true,
});
if (values.containerd !== undefined) {
  process.env["PATH"] = `${resolve(values.containerd)}:${process.env["PATH"] ?? ""}`;
}
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
