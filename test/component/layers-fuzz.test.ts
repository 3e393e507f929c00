import assert from "node:assert/strict";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import test from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import * as fc from "fast-check";
import { FlotillaError } from "#base/errors.ts";
import { mountPointsBelow } from "#linux/unmount.ts";
import { blockBytes } from "#tar/tar-format.ts";
import { LayerThreads } from "../../services/snapshots/threads/layer-threads.ts";
import { makeTemporaryDirectory, removeDirectory } from "../kit/temporary-directory.ts";
import { describeTree } from "../kit/tree.ts";
import { corpus } from "./layer-corpus/corpus.ts";
import { sealHeader } from "./layer-corpus/raw-member.ts";
import { applyFile } from "./layer-rig.ts";

/** Layers tried in a run; `FLOTILLA_FUZZ_RUNS` sets more for a longer one. The seed is that of the run. */
const runs = Number(process.env["FLOTILLA_FUZZ_RUNS"] ?? 150);
/** A layer of a few kilobytes is applied by then, or hangs. */
const applyMsMax = 20_000;

/** The layers that are small enough for many of them to be tried. */
const seeds = corpus.map(({ layer }) => layer).filter(({ length }) => length > 0 && length < 64 * 1024);

/** What is done to an archive, and whether the sums of its headers are made right again afterwards. */
const damage = fc.record({
  kind: fc.constantFrom("set", "cut", "repeat", "swap", "number", "name"),
  at: fc.nat(2 ** 20),
  value: fc.nat(2 ** 16),
});

const names = ["../../outside/secret", "/outside", "link/secret", ".wh.link", "..", "", "a/../../../outside/x"];

function change(archive: Buffer, { kind, at, value }: { kind: string; at: number; value: number }): Buffer {
  const position = at % Math.max(1, archive.length);
  const block = position - (position % blockBytes);
  const other = (value * blockBytes) % Math.max(blockBytes, archive.length - (archive.length % blockBytes));
  switch (kind) {
    case "cut":
      return Buffer.concat([archive.subarray(0, position), archive.subarray(position + (value % 2000))]);
    case "repeat":
      return Buffer.concat([archive.subarray(0, block + blockBytes), archive.subarray(other)]);
    case "swap": {
      const changed = Buffer.from(archive);
      archive.copy(changed, block, other, other + blockBytes);
      archive.copy(changed, other, block, block + blockBytes);
      return changed;
    }
    case "number": {
      const changed = Buffer.from(archive);
      const field = [100, 108, 116, 124, 136, 329, 337][value % 7] ?? 124;
      if (block + blockBytes <= changed.length) {
        changed.writeUInt32BE((0x8000_0000 | (value & 0xff)) >>> 0, block + field);
      }
      return changed;
    }
    case "name": {
      const changed = Buffer.from(archive);
      const field = block + (value % 2 === 0 ? 0 : 157);
      if (block + blockBytes <= changed.length) {
        changed.write(`${names[value % names.length]}\0`, field, "latin1");
      }
      return changed;
    }
    default: {
      const changed = Buffer.from(archive);
      changed[position] = value & 0xff;
      return changed;
    }
  }
}

/** Makes the sum of every block right that has the magic of a header, so that what is damaged is looked at. */
function sealAll(archive: Buffer): Buffer {
  const sealed = Buffer.from(archive);
  for (let block = 0; block + blockBytes <= sealed.length; block += blockBytes) {
    if (sealed.toString("latin1", block + 257, block + 262) === "ustar") {
      sealHeader(sealed.subarray(block, block + blockBytes));
    }
  }
  return sealed;
}

test("damaged layers are applied or refused, and nothing outside their tree changes", {
  timeout: 200_000 + runs * 100,
}, async (context) => {
  const directory = await makeTemporaryDirectory("fuzz");
  const threads = new LayerThreads();
  context.after(async () => {
    await threads[Symbol.asyncDispose]();
    await directory[Symbol.asyncDispose]();
  });
  const { path } = directory;
  mkdirSync(`${path}/outside`);
  writeFileSync(`${path}/outside/secret`, "secret");
  const before = describeTree(`${path}/outside`);
  const pick = fc.nat(seeds.length - 1);
  await fc.assert(
    fc.asyncProperty(
      fc.array(pick, { minLength: 1, maxLength: 3 }),
      fc.array(damage, { maxLength: 5 }),
      fc.boolean(),
      fc.constantFrom("remove" as const, "overlay" as const),
      async (chosen, damages, isSealed, whiteouts) => {
        const joined = Buffer.concat(chosen.map((index) => seeds[index] ?? Buffer.alloc(0)));
        const damaged = damages.reduce(change, joined);
        writeFileSync(`${path}/layer`, isSealed ? sealAll(damaged) : damaged);
        const root = `${path}/root`;
        mkdirSync(root);
        const applied = applyFile(threads, `${path}/layer`, { root, whiteouts, lowers: [] }).then(
          () => undefined,
          (error: unknown) => error,
        );
        const outcome = await Promise.race([applied, delay(applyMsMax, "hangs", { ref: false })]);
        assert.notEqual(outcome, "hangs");
        assert.ok(outcome === undefined || outcome instanceof FlotillaError, String(outcome));
        assert.doesNotMatch(String(outcome), /TypeError|RangeError/);
        await removeDirectory(root);
        assert.deepEqual(describeTree(`${path}/outside`), before, "something outside has changed");
        assert.deepEqual(readdirSync(path).sort(), ["layer", "outside"]);
      },
    ),
    { numRuns: runs },
  );
  assert.deepEqual(await mountPointsBelow(path), []);
});
