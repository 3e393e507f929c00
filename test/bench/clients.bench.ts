import { execa } from "execa";
import type { Daemon } from "../kit/daemon.ts";
import { busyboxImage } from "../kit/image.ts";
import { uniqueNamespace } from "../kit/namespace.ts";
import { ctr, startBoth } from "./daemons.ts";
import { type Bench, spreadOf } from "./measurement.ts";
import { interleave } from "./rounds.ts";

const rounds = 5;
const runsPerRound = 6;
const atOnce = 8;
const runsAtOnce = 48;

/** What a user of `ctr` waits for: whole processes, from their start to their end. */
export const clientsBench: Bench = {
  name: "clients",
  async run() {
    const namespace = uniqueNamespace();
    const { tar, name, layers } = await busyboxImage();
    const digest = layers[0]?.digest ?? "";
    await using daemons = await startBoth();
    for (const daemon of [daemons.flotilla, daemons.containerd]) {
      await ctr(daemon, "-n", namespace, "images", "import", tar);
    }
    let made = 0;
    const results = await interleave(rounds, async (side) => {
      const daemon = daemons[side];
      const run = (): Promise<number> => time(daemon, namespace, "run", "--rm", name, `run-${made++}`, "true");
      return {
        runMs: await medianOf(run),
        runRate: await rateOf(run),
        createMs: await medianOf(async () => {
          const id = `created-${made++}`;
          const ms = await time(daemon, namespace, "containers", "create", name, id, "true");
          await time(daemon, namespace, "containers", "rm", id);
          return ms;
        }),
        listMs: await medianOf(() => time(daemon, namespace, "images", "ls")),
        checkMs: await medianOf(() => time(daemon, namespace, "images", "check")),
        getMs: await medianOf(() => time(daemon, namespace, "content", "get", digest)),
      };
    });
    const lower = { unit: "ms", better: "lower", target: { kind: "ratio", bound: 1.1 } } as const;
    return [
      {
        what: "`ctr run --rm IMAGE true`",
        unit: "ms",
        better: "lower",
        target: { kind: "ratio", bound: 1.05 },
        samples: results.runMs,
      },
      {
        what: "`ctr run --rm IMAGE true`, 48 of them, 8 at once",
        unit: "runs/s",
        better: "higher",
        target: { kind: "ratio", bound: 1 },
        samples: results.runRate,
      },
      { ...lower, what: "`ctr containers create`", samples: results.createMs },
      { ...lower, what: "`ctr images ls`", samples: results.listMs },
      { ...lower, what: "`ctr images check`", samples: results.checkMs },
      { ...lower, what: "`ctr content get` of a layer of 2 MB", samples: results.getMs },
    ];
  },
};

async function time({ address }: Daemon, namespace: string, ...args: string[]): Promise<number> {
  const startedMs = performance.now();
  await execa("ctr", ["-a", address, "-n", namespace, ...args], { stdin: "ignore", stdout: "ignore" });
  return performance.now() - startedMs;
}

async function medianOf(measure: () => Promise<number>): Promise<number> {
  const times: number[] = [];
  for (let run = 0; run < runsPerRound; run += 1) {
    times.push(await measure());
  }
  return spreadOf(times).median;
}

async function rateOf(run: () => Promise<number>): Promise<number> {
  let left = runsAtOnce;
  const startedMs = performance.now();
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      while (left > 0) {
        left -= 1;
        await run();
      }
    }),
  );
  return (runsAtOnce * 1000) / (performance.now() - startedMs);
}
