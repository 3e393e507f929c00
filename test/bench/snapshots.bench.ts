import { renameSync } from "node:fs";
import { createClient } from "@connectrpc/connect";
import { Snapshots } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import { clientHeaders } from "#wire/headers.ts";
import type { Daemon } from "../kit/daemon.ts";
import { uniqueNamespace } from "../kit/namespace.ts";
import { type Daemons, startBothOn } from "./daemons.ts";
import { makeFileSystem } from "./file-system.ts";
import { makeManyFiles } from "./many-files.ts";
import type { Bench, Measurement, Side } from "./measurement.ts";
import { say } from "./progress.ts";
import { interleave } from "./rounds.ts";

const rounds = 5;
/** A million files are counted in seconds. */
const countRounds = 3;
const depths = [1, 50, 500] as const;
/** Snapshots that are made in one round, one after the other or so many at once. */
const turns = 40;
const atOnce = 8;
const files = 1_000_000;
/** For the files, and some more for snapshots. */
const inodes = 1_200_000;
/** Between two calls of somebody who has nothing to do with the counting. */
const probeMs = 2;

/** Making, committing and removing snapshots; counting many files. `apply` fills them. */
export const snapshotsBench: Bench = {
  name: "snapshots",
  async run() {
    const namespace = uniqueNamespace();
    await using fileSystem = await makeFileSystem({ inodes });
    await using daemons = await startBothOn(fileSystem);
    return [...(await measureChains(daemons, namespace)), ...(await measureUsage(daemons, namespace, fileSystem.path))];
  },
};

/** Prepare, Commit and Remove on top of chains of several depths. */
async function measureChains(daemons: Daemons, namespace: string): Promise<Measurement[]> {
  const measurements: Measurement[] = [];
  for (const depth of depths) {
    const parents: Record<Side, string> = { flotilla: "", containerd: "" };
    for (const side of ["flotilla", "containerd"] as const) {
      parents[side] = await makeChain(daemons[side], namespace, depth);
    }
    const results = await interleave(rounds, async (side, round) => {
      const live = openLives(daemons[side], namespace, parents[side], `${depth}-${round}`);
      return { oneMs: await timeLives(live, 1), eightMs: await timeLives(live, atOnce) };
    });
    const what = `prepare + commit + remove a snapshot, ${depth} deep`;
    const common = { unit: "ms", better: "lower", target: { kind: "ratio", bound: 1 } } as const;
    measurements.push({ ...common, what, samples: results.oneMs });
    measurements.push({ ...common, what: `${what}, ${atOnce} at once`, samples: results.eightMs });
  }
  return measurements;
}

/** @returns the name of the topmost of so many committed snapshots on each other. */
async function makeChain(daemon: Daemon, namespace: string, depth: number): Promise<string> {
  const client = createClient(Snapshots, daemon.transport);
  const call = { headers: clientHeaders(namespace) };
  let parent = "";
  for (let level = 0; level < depth; level += 1) {
    const [key, name] = [`chain-${depth}-key`, `chain-${depth}-${level}`];
    await client.prepare({ snapshotter: "overlayfs", key, parent, labels: rooted }, call);
    await client.commit({ snapshotter: "overlayfs", key, name, labels: rooted }, call);
    parent = name;
  }
  return parent;
}

/** Keeps a snapshot from the collector. */
const rooted = { "containerd.io/gc.root": "bench" };

/** @returns a function that makes, commits and removes one snapshot. */
function openLives(daemon: Daemon, namespace: string, parent: string, prefix: string): () => Promise<void> {
  const client = createClient(Snapshots, daemon.transport);
  const call = { headers: clientHeaders(namespace) };
  const snapshotter = "overlayfs";
  let count = 0;
  return async () => {
    count += 1;
    const [key, name] = [`${prefix}-key-${count}`, `${prefix}-${count}`];
    await client.prepare({ snapshotter, key, parent, labels: rooted }, call);
    await client.commit({ snapshotter, key, name, labels: rooted }, call);
    await client.remove({ snapshotter, key: name }, call);
  };
}

/** Milliseconds for each of many lives, so many at once. */
async function timeLives(live: () => Promise<void>, inFlight: number): Promise<number> {
  let left = turns;
  const startedMs = performance.now();
  await Promise.all(
    Array.from({ length: inFlight }, async () => {
      while (left > 0) {
        left -= 1;
        await live();
      }
    }),
  );
  return (performance.now() - startedMs) / turns;
}

/** Usage of an active snapshot with very many files, and how long a call of somebody else waits meanwhile. */
async function measureUsage(daemons: Daemons, namespace: string, directory: string): Promise<Measurement[]> {
  say(`making ${files.toLocaleString("en")} files`);
  const tree = `${directory}/many-files`;
  await makeManyFiles(tree, files);
  const results = await interleave(countRounds, async (side) => {
    const client = createClient(Snapshots, daemons[side].transport);
    const call = { headers: clientHeaders(namespace) };
    const of = { snapshotter: "overlayfs", key: "many-files" };
    const { mounts } = await client.prepare({ ...of, labels: rooted }, call);
    const place = `${mounts[0]?.source}/many-files`;
    renameSync(tree, place);
    const done = new AbortController();
    const longest = probe(daemons[side], namespace, done.signal);
    const startedMs = performance.now();
    const { inodes: counted } = await client.usage(of, call);
    const usageS = (performance.now() - startedMs) / 1000;
    done.abort();
    renameSync(place, tree);
    await client.remove(of, call);
    if (counted < BigInt(files)) {
      throw new Error(`${counted} inodes were counted`);
    }
    return { usageS, longestWaitMs: await longest };
  });
  return [
    { what: "usage of a snapshot with a million files", unit: "s", better: "lower", samples: results.usageS },
    {
      what: "longest wait of another call for a snapshot meanwhile",
      unit: "ms",
      better: "lower",
      target: { kind: "value", bound: 50 },
      samples: results.longestWaitMs,
    },
  ];
}

/** Asks for the usage of a small snapshot again and again. @returns the longest wait in ms. */
async function probe(daemon: Daemon, namespace: string, signal: AbortSignal): Promise<number> {
  const client = createClient(Snapshots, daemon.transport);
  const call = { headers: clientHeaders(namespace) };
  const of = { snapshotter: "overlayfs", key: "chain-1-0" };
  let longestMs = 0;
  while (!signal.aborted) {
    const startedMs = performance.now();
    await client.usage(of, call);
    longestMs = Math.max(longestMs, performance.now() - startedMs);
    await new Promise((resolve) => setTimeout(resolve, probeMs));
  }
  return longestMs;
}
