import type { CorpusLayer } from "./corpus-layer.ts";
import { archiveOf, paxHeader, rawMember } from "./raw-member.ts";

type Map = readonly (readonly [offset: number, length: number])[];

const stored = "0123456789".repeat(103);
const block = 512;
const after = { name: "g", data: "after" } as const;

/** Maps that are right for 1,030 stored bytes, and some that are not. */
const maps: Readonly<Record<string, { readonly map: Map; readonly size: number }>> = {
  "one piece": { map: [[0, 1030]], size: 1030 },
  "a hole before": { map: [[100_000, 1030]], size: 101_030 },
  "a hole after": { map: [[0, 1030]], size: 200_000 },
  "holes between": {
    map: [
      [0, 512],
      [65_536, 512],
      [100_001, 6],
      [131_072, 0],
    ],
    size: 131_072,
  },
  "an empty piece at the end": {
    map: [
      [0, 1030],
      [200_000, 0],
    ],
    size: 200_000,
  },
  "an empty piece in between": {
    map: [
      [0, 30],
      [50, 0],
      [100, 1000],
    ],
    size: 1100,
  },
  "pieces without a hole": {
    map: [
      [0, 512],
      [512, 518],
    ],
    size: 1030,
  },
  "pieces that overlap": {
    map: [
      [0, 512],
      [500, 518],
    ],
    size: 2000,
  },
  "pieces out of order": {
    map: [
      [4096, 512],
      [0, 518],
    ],
    size: 5000,
  },
  "a piece beyond the end": { map: [[5000, 1030]], size: 4000 },
  "more than is stored": { map: [[0, 5000]], size: 5000 },
  "less than is stored": { map: [[0, 5]], size: 5000 },
  "a negative piece": { map: [[-5, 1030]], size: 5000 },
  "a negative length": { map: [[0, -5]], size: 5000 },
};

/** @source GNU tar manual, "PAX Format, Version 0.0" */
function version00(map: Map, size: number, count = map.length): Buffer {
  const records = map.flatMap(([offset, length]) => [
    ["GNU.sparse.offset", String(offset)] as const,
    ["GNU.sparse.numbytes", String(length)] as const,
  ]);
  const head = [
    ["GNU.sparse.size", String(size)],
    ["GNU.sparse.numblocks", String(count)],
  ] as const;
  return archiveOf(paxHeader([...head, ...records]), { name: "f", data: stored }, after);
}

/** @source GNU tar manual, "PAX Format, Version 0.1" */
function version01(map: Map, size: number, count = map.length): Buffer {
  const records = [
    ["GNU.sparse.name", "real-name"],
    ["GNU.sparse.size", String(size)],
    ["GNU.sparse.numblocks", String(count)],
    ["GNU.sparse.map", map.flat().join(",")],
  ] as const;
  return archiveOf(paxHeader(records), { name: "GNUSparseFile.1/f", data: stored }, after);
}

/** @source GNU tar manual, "PAX Format, Version 1.0" */
function version10(map: Map, size: number, count: number | string = map.length): Buffer {
  const text = [count, ...map.flat()].map((number) => `${number}\n`).join("");
  const head = text.padEnd(Math.ceil(text.length / block) * block, "\0");
  const records = [
    ["GNU.sparse.major", "1"],
    ["GNU.sparse.minor", "0"],
    ["GNU.sparse.name", "real-name"],
    ["GNU.sparse.realsize", String(size)],
  ] as const;
  return archiveOf(paxHeader(records), { name: "GNUSparseFile.1/f", data: head + stored }, after);
}

/** @source GNU tar manual, "Storing Sparse Files" (old GNU format) */
function oldGnu(map: Map, size: number): Buffer {
  const number = (value: number): string => `${Math.max(0, value).toString(8).padStart(11, "0")}\0`;
  const pieces = map.slice(0, 4).map(([offset, length]) => number(offset) + number(length));
  const patches = { 386: pieces.join(""), 483: number(size) };
  return archiveOf(rawMember({ name: "f", type: "S", magic: "gnu", data: stored, patches }), after);
}

const notAs: Readonly<Record<string, Partial<CorpusLayer>>> = {
  "a hole after": { notAsTar: "GNU tar looks at the map alone; its own maps end with an empty piece" },
  "an empty piece in between": { notAsTar: "GNU tar takes an empty piece for the last" },
};

/** A file of more than 8 GiB of which a few bytes at either end are stored. */
export function hugeLayer(sizeBytes: number): Buffer {
  return version10(
    [
      [0, 512],
      [sizeBytes - 518, 518],
    ],
    sizeBytes,
  );
}

const many: Map = Array.from({ length: 103 }, (_, index) => [index * 100, 10] as const);

/** Sparse files in the four formats of GNU tar. */
export const sparseLayers: readonly CorpusLayer[] = [
  ...Object.entries(maps).flatMap(([what, { map, size }]) => [
    { name: `sparse 0.0, ${what}`, layer: version00(map, size), ...notAs[what] },
    { name: `sparse 0.1, ${what}`, layer: version01(map, size), ...notAs[what] },
    { name: `sparse 1.0, ${what}`, layer: version10(map, size), ...notAs[what] },
    { name: `old sparse, ${what}`, layer: oldGnu(map, size), notAsContainerd: "refused as well, if not for its map" },
  ]),
  { name: "sparse 0.0, a hundred pieces", layer: version00(many, 10_300) },
  { name: "sparse 0.1, a hundred pieces", layer: version01(many, 10_300) },
  { name: "sparse 1.0, a hundred pieces", layer: version10(many, 10_300) },
  { name: "sparse 0.0, a count that is wrong", layer: version00([[0, 1030]], 1030, 2) },
  { name: "sparse 0.1, a count that is wrong", layer: version01([[0, 1030]], 1030, 2) },
  { name: "sparse 1.0, a count that is wrong", layer: version10([[0, 1030]], 1030, 90) },
  { name: "sparse 1.0, a count that is no number", layer: version10([[0, 1030]], 1030, "many") },
  { name: "sparse 1.0, a count without end", layer: version10([[0, 1030]], 1030, "9".repeat(600)) },
  { name: "sparse 1.0, a negative count", layer: version10([[0, 1030]], 1030, -1) },
  { name: "sparse 1.0, a huge count", layer: version10([[0, 1030]], 1030, 2 ** 40) },
];
