import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import test from "node:test";
import { readDetails } from "./cgroup-details.ts";
import { readFigures } from "./cgroup-figures.ts";
import { readProcessorTime } from "./cgroup-place.ts";
import { metricDescriptors } from "./metric-descriptors.ts";
import { defaultInterface, parseInterfaces } from "./network-figures.ts";
import { UsageRates } from "./usage-rates.ts";

async function withFiles(files: Readonly<Record<string, string>>, run: (directory: string) => void): Promise<void> {
  const directory = await mkdtemp(`${tmpdir()}/flotilla-cgroup-`);
  try {
    for (const [name, text] of Object.entries(files)) {
      await mkdir(`${directory}/${name}`.replace(/\/[^/]*$/, ""), { recursive: true });
      await writeFile(`${directory}/${name}`, text);
    }
    run(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

test("figures of a unified cgroup are read", () =>
  withFiles(
    {
      "cpu.stat": "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_throttled 1\n",
      "cpu.pressure": "some avg10=1.50 avg60=0.00 avg300=0.00 total=7\n",
      "memory.current": "100\n",
      "memory.max": "max\n",
      "memory.stat": "anon 40\ninactive_file 30\npgfault 9\n",
      "memory.events": "oom_kill 2\n",
      "pids.current": "4\n",
    },
    (directory) => {
      const figures = readFigures({ kind: "unified", directory }, 1n);
      const details = readDetails({ kind: "unified", directory });
      assert.equal(figures?.cpu?.totalNs, 5000n);
      assert.deepEqual([details.cpu?.userNs, details.cpu?.throttledPeriods, details.memory?.oomKills], [3000n, 1n, 2n]);
      assert.deepEqual(figures?.cpu?.pressure?.some, { totalNs: 7000n, avg10: 1.5, avg60: 0, avg300: 0 });
      const { memory } = figures ?? {};
      assert.deepEqual([memory?.workingSet, memory?.available, memory?.rss], [70n, 0n, 40n]);
      assert.equal(readProcessorTime({ kind: "unified", directory }), 5000n);
      assert.equal(figures?.processes, 4n);
    },
  ));

test("figures of a cgroup with one directory for each controller are read", () =>
  withFiles(
    {
      "cpuacct/cpuacct.usage": "9\n",
      "cpuacct/cpuacct.stat": "user 2\nsystem 1\n",
      "memory/memory.usage_in_bytes": "100\n",
      "memory/memory.limit_in_bytes": "150\n",
      "memory/memory.stat": "total_inactive_file 120\ntotal_rss 3\n",
    },
    (directory) => {
      const place = { kind: "legacy", directoryOf: (controller: string) => `${directory}/${controller}` } as const;
      const figures = readFigures(place, 1n);
      assert.deepEqual([figures?.cpu?.totalNs, readProcessorTime(place)], [9n, 9n]);
      assert.equal(readDetails(place).cpu?.userNs, 20_000_000n);
      assert.deepEqual([figures?.memory?.workingSet, figures?.memory?.available, figures?.memory?.rss], [0n, 150n, 3n]);
      assert.equal(readFigures({ kind: "unified", directory: `${directory}/gone` }, 1n), undefined);
    },
  ));

test("network devices are read but for the loopback device, and eth0 is the one that counts", () => {
  const row = (name: string, first: number): string =>
    `${name}: ${Array.from({ length: 16 }, (_none, index) => first + index).join(" ")}`;
  const found = parseInterfaces(
    `Inter-|   Receive\n face |bytes\n${row("    lo", 0)}\n${row("  net1", 100)}\n${row("  eth0", 200)}\n`,
  );
  assert.deepEqual(
    found.map(({ name }) => name),
    ["net1", "eth0"],
  );
  assert.deepEqual(
    [found[1]?.receivedBytes, found[1]?.receiveErrors, found[1]?.sentBytes, found[1]?.sendErrors],
    [200n, 202n, 208n, 210n],
  );
  assert.equal(defaultInterface(found)?.name, "eth0");
  assert.equal(defaultInterface(found.slice(0, 1))?.name, "net1");
  assert.equal(defaultInterface([]), undefined);
});

test("a rate is of two samples, and what begins anew has none", () => {
  const rates = new UsageRates();
  const second = 1_000_000_000n;
  assert.equal(rates.note("a", { atNs: 0n, usedNs: 0n }), undefined);
  assert.equal(rates.note("a", { atNs: second, usedNs: second / 2n }), second / 2n);
  assert.equal(rates.note("a", { atNs: second + 1n, usedNs: second }), second / 2n, "too near to tell");
  assert.equal(rates.note("a", { atNs: 2n * second, usedNs: 0n }), undefined);
  rates.keepOnly(new Set());
  assert.equal(rates.note("a", { atNs: 3n * second, usedNs: second }), undefined);
});

test("figures have the labels that all have, and some more", () => {
  const labels = new Map(metricDescriptors().map(({ name, labelKeys }) => [name, labelKeys]));
  assert.deepEqual(labels.get("container_memory_rss"), ["pod", "namespace", "container", "id", "image"]);
  assert.equal(labels.get("container_network_receive_bytes_total")?.at(-1), "interface");
});
