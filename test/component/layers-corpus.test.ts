import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { closeSync, mkdirSync, openSync, readSync, statSync } from "node:fs";
import test, { type TestContext } from "node:test";
import { withTemporaryMount } from "#linux/temporary-mount.ts";
import { LayerThreads } from "../../services/snapshots/threads/layer-threads.ts";
import { startContainerd } from "../kit/daemon.ts";
import { makeTemporaryDirectory, removeDirectory } from "../kit/temporary-directory.ts";
import { describeTree, type TreeEntry } from "../kit/tree.ts";
import { type Applier, containerdApplier, ourApplier, tarApplier, workOf } from "./layer-appliers.ts";
import { corpus } from "./layer-corpus/corpus.ts";
import type { CorpusLayer } from "./layer-corpus/corpus-layer.ts";
import { hugeLayer } from "./layer-corpus/sparse.ts";

/** The entries by path, times of this very run as one; or the last part of the error, which no path is in. */
type Outcome = { readonly error: string } | { readonly entries: Readonly<Record<string, TreeEntry>> };

const now = -1n;
/** Layers of the corpus of which GNU tar makes something without complaint, at least. */
const comparedWithTarMin = 250;

class CorpusRig {
  readonly #path: string;
  readonly #startedNs = BigInt(Date.now() - 60_000) * 1_000_000n;
  #count = 0;

  constructor(path: string) {
    this.#path = path;
  }

  /** Applies a layer over what is below it: in a directory that has it, or in an overlay that shows it. */
  async apply(applier: Applier, { below, layer }: CorpusLayer, place: "whole" | "overlay"): Promise<Outcome> {
    this.#count += 1;
    const base = `${this.#path}/${this.#count}`;
    const [root, lower] = [`${base}/root`, `${base}/lower`];
    mkdirSync(root, { recursive: true });
    mkdirSync(lower);
    try {
      if (below !== undefined) {
        assert.equal(await applier(below, { root: place === "whole" ? root : lower }), undefined);
      }
      const error = await applier(layer, place === "whole" ? { root } : { root, lower });
      if (error !== undefined) {
        return {
          error:
            error
              .replace(/^mount callback failed on \S+: |: unknown$/g, "")
              .split(": ")
              .at(-1) ?? "",
        };
      }
      if (place === "whole") {
        return { entries: this.#describe(root) };
      }
      const options = [`workdir=${workOf(root)}`, `upperdir=${root}`, `lowerdir=${lower}`];
      const mount = { type: "overlay", source: "overlay", target: "", options };
      return await withTemporaryMount([mount], `${base}/mounts`, (shown) => ({ entries: this.#describe(shown) }));
    } finally {
      await removeDirectory(base);
    }
  }

  #describe(root: string): Record<string, TreeEntry> {
    const entries = [...describeTree(root)].map(([path, entry]) => {
      return [path, { ...entry, mtimeNs: isFresh(entry, this.#startedNs) ? now : entry.mtimeNs }] as const;
    });
    return Object.fromEntries(entries);
  }
}

function isFresh({ mtimeNs }: TreeEntry, startedNs: bigint): boolean {
  return mtimeNs >= startedNs && mtimeNs < startedNs + 3_600_000_000_000n;
}

/** Nobody can rely on the times of directories that the others have changed after they had set them. */
function withoutTimesLeftOpen(ours: Outcome, theirs: Outcome): Outcome {
  if ("error" in ours || "error" in theirs) {
    return ours;
  }
  const entries = Object.entries(ours.entries).map(([path, entry]) => {
    const isOpen = entry.type === "directory" && theirs.entries[path]?.mtimeNs === now;
    return [path, isOpen ? { ...entry, mtimeNs: now } : entry] as const;
  });
  return { entries: Object.fromEntries(entries) };
}

async function openRig(context: TestContext): Promise<{ readonly rig: CorpusRig; readonly ours: Applier }> {
  const directory = await makeTemporaryDirectory("corpus");
  const threads = new LayerThreads();
  context.after(async () => {
    await threads[Symbol.asyncDispose]();
    await directory[Symbol.asyncDispose]();
  });
  return { rig: new CorpusRig(directory.path), ours: ourApplier(threads, `${directory.path}/layer`) };
}

test("the layers of the corpus have names of their own", () => {
  assert.equal(new Set(corpus.map(({ name }) => name)).size, corpus.length);
});

test("odd layers become what GNU tar makes of them", { timeout: 200_000 }, async (context) => {
  const { rig, ours } = await openRig(context);
  let compared = 0;
  for (const layer of corpus.filter(({ notAsTar }) => notAsTar === undefined)) {
    const mine = await rig.apply(ours, layer, "whole");
    const theirs = await rig.apply(tarApplier, layer, "whole");
    // GNU tar repairs what is broken; Go's library, and so we, refuse it.
    if ("entries" in mine && "entries" in theirs) {
      compared += 1;
      assert.deepEqual(withoutTimesLeftOpen(mine, theirs), theirs, layer.name);
    }
  }
  assert.ok(compared >= comparedWithTarMin, `${compared} layers were compared`);
});

test("a file of more than 8 GiB keeps its holes", async (context) => {
  const directory = await makeTemporaryDirectory("huge");
  const threads = new LayerThreads();
  context.after(async () => {
    await threads[Symbol.asyncDispose]();
    await directory[Symbol.asyncDispose]();
  });
  const sizeBytes = 9 * 1024 ** 3 + 7;
  const facts: unknown[] = [];
  for (const applier of [ourApplier(threads, `${directory.path}/layer`), tarApplier]) {
    const root = `${directory.path}/${facts.length}`;
    mkdirSync(root);
    assert.equal(await applier(hugeLayer(sizeBytes), { root }), undefined);
    const { size, blocks } = statSync(`${root}/real-name`);
    assert.ok(blocks < 100, `${blocks} blocks are taken`);
    facts.push({ size, ends: endsOf(`${root}/real-name`, size) });
  }
  assert.deepEqual(facts[0], facts[1]);
});

/** The first and the last bytes of a file. */
function endsOf(path: string, sizeBytes: number): string[] {
  const descriptor = openSync(path, "r");
  try {
    return [0, sizeBytes - 1000].map((position) => {
      const bytes = Buffer.alloc(1000);
      readSync(descriptor, bytes, 0, bytes.length, position);
      return bytes.toString("hex");
    });
  } finally {
    closeSync(descriptor);
  }
}

test("odd layers become what containerd makes of them, or fail as they do there", {
  timeout: 200_000,
  skip: spawnSync("containerd", ["--version"]).status !== 0 && "containerd is not installed",
}, async (context) => {
  const { rig, ours } = await openRig(context);
  await using daemon = await startContainerd();
  const containerd = containerdApplier(daemon);
  const compare = async (layer: CorpusLayer, place: "whole" | "overlay"): Promise<void> => {
    const mine = await rig.apply(ours, layer, place);
    const theirs = await rig.apply(containerd, layer, place);
    assert.deepEqual(withoutTimesLeftOpen(mine, theirs), theirs, `${layer.name} (${place})`);
  };
  for (const layer of corpus.filter(({ notAsContainerd }) => notAsContainerd === undefined)) {
    await compare(layer, "whole");
    if (layer.below !== undefined && layer.overlayNotAsContainerd === undefined) {
      await compare(layer, "overlay");
    }
  }
});
