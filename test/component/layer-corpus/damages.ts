import { gzipSync } from "node:zlib";
import type { CorpusLayer } from "./corpus-layer.ts";
import { archiveOf, paxHeader, rawMember } from "./raw-member.ts";

const blockBytes = 512;

const whole = archiveOf(
  { name: "d/", type: "5", mode: 0o755 },
  paxHeader([["path", "d/renamed"]]),
  { name: "f", data: "content ".repeat(100) },
  rawMember({ name: "././@LongLink", type: "L", magic: "gnu", data: `d/${"long".repeat(40)}\0` }),
  { name: "g", data: "after" },
  { name: "l", type: "1", linkName: "d/renamed" },
);

/** Cut at the boundaries of blocks, a byte to either side, and in the middle. */
function cuts(): CorpusLayer[] {
  const places = new Set<number>();
  for (let block = 0; block <= whole.length; block += blockBytes) {
    for (const offset of [-1, 0, 1, 256]) {
      places.add(Math.min(whole.length, Math.max(0, block + offset)));
    }
  }
  return [...places].map((bytes) => ({ name: `cut to ${bytes} bytes`, layer: whole.subarray(0, bytes) }));
}

/** One byte changed in each field of a header. */
function flips(): CorpusLayer[] {
  return [0, 99, 100, 108, 116, 124, 136, 148, 156, 157, 257, 263, 265, 329, 345, 500].flatMap((offset) =>
    [0, blockBytes * 3].map((header) => {
      const layer = Buffer.from(whole);
      layer[header + offset] = (layer[header + offset] ?? 0) ^ 0x41;
      return { name: `a changed byte at ${header + offset}`, layer };
    }),
  );
}

function compressed(): CorpusLayer[] {
  const zipped = gzipSync(whole, { level: 1 });
  const broken = Buffer.from(zipped);
  broken.fill(0xff, 60, 70);
  const wrongSum = Buffer.from(zipped);
  wrongSum.fill(0, zipped.length - 8, zipped.length - 4);
  return [
    { name: "gzip", layer: zipped },
    {
      name: "gzip in two members",
      layer: Buffer.concat([gzipSync(whole.subarray(0, 1000)), gzipSync(whole.subarray(1000))]),
    },
    { name: "gzip that is cut", layer: zipped.subarray(0, zipped.length - 20) },
    { name: "gzip that is broken", layer: broken, notAsContainerd: "refused as well, in the words of zlib" },
    { name: "gzip with a wrong sum", layer: wrongSum },
    { name: "gzip in gzip", layer: gzipSync(zipped) },
    { name: "gzip with zeros after it", layer: Buffer.concat([zipped, Buffer.alloc(100)]) },
    { name: "gzip with rubbish after it", layer: Buffer.concat([zipped, Buffer.from("rubbish after the end")]) },
    { name: "the magic of gzip alone", layer: Buffer.from([0x1f, 0x8b, 8]) },
    { name: "the magic of zstd alone", layer: Buffer.from([0x28, 0xb5, 0x2f, 0xfd]) },
  ];
}

/** Archives that something has happened to. */
export const damagedLayers: readonly CorpusLayer[] = [...cuts(), ...flips(), ...compressed()];
