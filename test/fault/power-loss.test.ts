import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import test, { type TestContext } from "node:test";
import { mountAll } from "#linux/mount.ts";
import { unmountAll } from "#linux/unmount.ts";
import { LayerThreads } from "../../services/snapshots/threads/layer-threads.ts";
import { TreeThreads } from "../../services/snapshots/threads/tree-threads.ts";
import { directory, file, hardLink, symlink } from "../component/layer-corpus/corpus-layer.ts";
import { layerOf } from "../component/layer-rig.ts";
import { CrashImages } from "../kit/recorded-disks/crash-images.ts";
import type { DiskEvent } from "../kit/recorded-disks/disk-log.ts";
import { lacksRecordedDisks, RecordedDisks } from "../kit/recorded-disks/recorded-disks.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";
import { seededRandom } from "./random.ts";
import { StoredSnapshots, type StorePlaces, type StoreThreads } from "./stored-snapshots.ts";

/** Losses of power that are tried, besides one after each answer; FLOTILLA_POWER_LOSSES sets more. */
const lossesMax = Number(process.env["FLOTILLA_POWER_LOSSES"] ?? 60);
/** No further loss is tried after that time. */
const trialMs = process.env["FLOTILLA_POWER_LOSSES"] === undefined ? 35_000 : 3_600_000;
const diskBytes = 32 * 1024 ** 2;

const snapshotters = ["overlayfs", "native"] as const;

/** A chain with files, directories that a layer implies, links, removals and attributes. */
const layers = [
  layerOf(
    directory("etc", { mode: 0o750, user: 7, modified: { seconds: 5, nanoseconds: 6 } }),
    file("etc/config", "first\n".repeat(2000), { mode: 0o640 }),
    hardLink("etc/same", "etc/config", { mode: 0o640 }),
    directory("var", { mode: 0o1777, attributes: { "user.note": "kept" } }),
    ...Array.from({ length: 30 }, (_, index) => file(`var/${index}`, `${index}`.repeat(3000))),
  ),
  layerOf(file("etc/config", "second"), symlink("etc/link", "config"), file("var/.wh.7"), file("var/deep/new", "new")),
  layerOf(file("etc/third", "third".repeat(10_000)), file("var/deep/.wh..wh..opq"), file("var/deep/newer", "newer")),
];

/** What was answered, and when. */
interface Answer {
  readonly snapshotter: string;
  readonly name: string;
  /** `asked`: its removal has begun, and from then on it may be there or not. */
  readonly outcome: "committed" | "asked" | "removed";
  /** Of the log, when the answer came. */
  readonly position: number;
}

interface Recording {
  readonly events: readonly DiskEvent[];
  readonly answers: readonly Answer[];
  /** What committed snapshots hold, by snapshotter and name. */
  readonly expected: ReadonlyMap<string, unknown>;
  readonly images: readonly string[];
}

/** Unpacks, commits and removes on recorded disks: one for the records, one for the snapshots. */
async function record(path: string, threads: StoreThreads): Promise<Recording> {
  mkdirSync(`${path}/disks`);
  mkdirSync(`${path}/live`);
  await using disks = await RecordedDisks.start(`${path}/disks`, 2, diskBytes);
  const [records = "", snapshots = ""] = disks.mounts;
  const answers: Answer[] = [];
  const expected = new Map<string, unknown>();
  {
    await using store = await StoredSnapshots.open({ records, snapshots, scratch: `${path}/live` }, threads);
    const names = StoredSnapshots.namesOf(layers);
    for (const snapshotter of snapshotters) {
      const note = (outcome: Answer["outcome"], name: string): void => {
        answers.push({ snapshotter, name, outcome, position: disks.position() });
      };
      await store.unpack(snapshotter, layers, (name) => note("committed", name));
      for (const name of names) {
        expected.set(`${snapshotter} ${name}`, await store.describe(snapshotter, name));
      }
      const top = names.at(-1) ?? "";
      note("asked", top);
      await store.remove(snapshotter, top);
      note("removed", top);
    }
  }
  return { events: await disks.stop(), answers, expected, images: disks.images };
}

/** Starts on the disks that a loss of power has left, and looks whether all is there. */
async function examine(
  recording: Recording,
  loss: { readonly eventCount: number; readonly images: readonly string[] },
  path: string,
  threads: StoreThreads,
): Promise<void> {
  const mounts = loss.images.map((image) => `${image}-mount`);
  try {
    for (const [disk, image] of loss.images.entries()) {
      await mountAll([{ type: "ext4", source: image, options: ["loop"] }], mounts[disk] ?? "");
    }
    const places: StorePlaces = { records: mounts[0] ?? "", snapshots: mounts[1] ?? "", scratch: `${path}/live` };
    await using store = await StoredSnapshots.open(places, threads);
    assert.deepEqual(store.stores.records.database.pragma("integrity_check", { simple: true }), "ok");
    for (const { unknownIds, lost } of store.repaired) {
      assert.deepEqual(unknownIds, [], "directories that no record knows");
      assert.deepEqual(lost, [], "records without their directories");
    }
    const position = recording.events[loss.eventCount - 1]?.position ?? 0;
    for (const snapshotter of snapshotters) {
      const committed = store.committed(snapshotter);
      for (const name of committed) {
        assert.deepEqual(
          await store.describe(snapshotter, name),
          recording.expected.get(`${snapshotter} ${name}`),
          `${snapshotter} ${name} is not what was committed`,
        );
      }
      const known = recording.answers.filter((answer) => answer.position <= position);
      const latest = new Map(
        known.filter((answer) => answer.snapshotter === snapshotter).map(({ name, outcome }) => [name, outcome]),
      );
      for (const [name, outcome] of [...latest].filter(([, last]) => last !== "asked")) {
        assert.equal(committed.includes(name), outcome === "committed", `${snapshotter} ${name} was ${outcome}`);
      }
    }
  } finally {
    for (const mount of mounts) {
      await unmountAll(mount);
    }
  }
}

async function openThreads(context: TestContext): Promise<StoreThreads> {
  const threads = { trees: new TreeThreads(), layers: new LayerThreads() };
  context.after(async () => {
    await threads.trees[Symbol.asyncDispose]();
    await threads.layers[Symbol.asyncDispose]();
  });
  return threads;
}

/**
 * The kernel's own block layer, file system and loop devices write to disks that record what reaches them; then the start of the daemon runs on
 * what such disks hold when the power goes at any place, with any part of what was not flushed.
 */
test("whenever the power goes, what was committed is whole and nothing is recorded that is not there", {
  skip: await lacksRecordedDisks(),
  timeout: trialMs + 120_000,
}, async (context) => {
  const directoryOfTest = await makeTemporaryDirectory("power");
  context.after(() => directoryOfTest[Symbol.asyncDispose]());
  const { path } = directoryOfTest;
  const threads = await openThreads(context);
  const random = seededRandom();
  context.diagnostic(`FLOTILLA_TEST_SEED=${random.seed}`);
  const recording = await record(path, threads);
  const { events } = recording;
  const images = recording.images.map((_, disk) => `${path}/loss-${disk}`);
  images.forEach((image) => mkdirSync(`${image}-mount`));
  // After an answer nothing but what has been flushed is sure to be there.
  const afterAnswers = recording.answers.map(({ position }) => ({
    eventCount: events.findIndex((event) => event.position > position),
    keepPercent: 0,
  }));
  const anywhere = Array.from({ length: lossesMax }, () => ({
    eventCount: random.below(events.length + 1),
    keepPercent: random.pick([0, 50, 100]),
  }));
  const startedMs = performance.now();
  let tried = 0;
  const losses = [...afterAnswers, ...anywhere];
  const order = losses
    .map((loss, index) => ({ ...loss, index }))
    .sort((left, right) => left.eventCount - right.eventCount);
  const crash = new CrashImages(events, recording.images);
  for (const { eventCount, keepPercent, index } of order) {
    if (performance.now() - startedMs > trialMs && index >= afterAnswers.length) {
      continue;
    }
    await crash.write(eventCount, () => random.below(100) < keepPercent, images);
    try {
      await examine(recording, { eventCount, images }, path, threads);
    } catch (error) {
      throw new Error(`after ${eventCount} of ${events.length} events, ${keepPercent} % of the last kept`, {
        cause: error,
      });
    }
    tried += 1;
  }
  context.diagnostic(`${tried} losses of power, ${events.length} events`);
});
