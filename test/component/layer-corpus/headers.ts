import type { CorpusLayer } from "./corpus-layer.ts";
import { archiveOf, base256, type RawMember, rawMember } from "./raw-member.ts";

const formats = ["v7", "ustar", "gnu", "star"] as const;

const noPrefix = "old Go programs wrote a prefix in a GNU header, which Go's reader repairs and GNU tar does not";

/** One of each kind, in each format. */
function kinds(): CorpusLayer[] {
  const members: Readonly<Record<string, readonly RawMember[]>> = {
    "a file": [{ name: "f", data: "content" }],
    "a file of the old kind": [{ name: "f", type: "\0", data: "content" }],
    "a directory of the old kind": [{ name: "d/", type: "\0", mode: 0o750 }],
    "a directory without a slash": [{ name: "d", type: "5", mode: 0o1777 }],
    "a directory with a size": [{ name: "d/", type: "5", mode: 0o755, size: 512 }, { name: "f" }],
    "a contiguous file": [{ name: "f", type: "7", data: "content" }],
    "a symbolic link": [{ name: "l", type: "2", linkName: "../some/where" }],
    "a hard link": [
      { name: "f", data: "content" },
      { name: "l", type: "1", linkName: "f" },
    ],
    "a hard link with a size": [
      { name: "f", data: "content" },
      { name: "l", type: "1", linkName: "f", size: 7 },
    ],
    "a pipe": [{ name: "p", type: "6", mode: 0o622 }],
    "a character device": [{ name: "c", type: "3", major: 5, minor: 1 }],
    "a block device": [{ name: "b", type: "4", major: 259, minor: 70_000 }],
    "a kind of a vendor": [{ name: "f", type: "A", data: "content" }],
    "a volume label": [{ name: "f", type: "V" }, { name: "g" }],
    "a dumped directory": [{ name: "d", type: "D", data: "Yf\0\0" }],
    "a name in two parts": [{ name: "f", prefix: "some/directory", data: "content" }],
    "a name without room for a NUL": [{ name: "n".repeat(100), linkName: "", data: "content" }],
    "an empty name": [{ name: "", data: "content" }, { name: "g" }],
  };
  return Object.entries(members).flatMap(([what, list]) =>
    formats.map((magic) => ({
      name: `${what} (${magic})`,
      layer: archiveOf(...list.map((member) => ({ magic, ...member }))),
      ...(magic === "gnu" && what === "a name in two parts" ? { notAsTar: noPrefix } : {}),
    })),
  );
}

const fields = [
  ["mode", 8],
  ["user", 8],
  ["group", 8],
  ["size", 12],
  ["modified", 12],
  ["major", 8],
  ["minor", 8],
] as const;

const inexact = "numbers of more than 53 bits are not exact, and nothing has any that large";
const noDevice = "a number that no device has is refused, not cut to the number of another device";

/** The ways in which programs write numbers, and ways in which they do not. */
function spellings(length: number): Readonly<Record<string, string>> {
  return {
    "with blanks before": "12 \0".padStart(length, " "),
    "with zeros before and no end": "12".padStart(length, "0"),
    "with a blank after": `${"12".padStart(length - 1, "0")} `,
    "with NULs before": "12".padStart(length, "\0"),
    "that ends early": "12\0garb".slice(0, length),
    "of blanks": " ".repeat(length),
    "of NULs": "\0".repeat(length),
    "in base 256": base256(10n, length),
    "in base 256, negative": base256(-10n, length),
    "in base 256, of 34 bits": base256(2n ** 33n + 7n, length),
    "in base 256, too large": `\x80${"\xff".repeat(length - 1)}`,
    "with a digit 8": "18".padStart(length - 1, "0"),
    "in hexadecimal": "0x12".padEnd(length, "\0"),
    "with a sign": "-12".padStart(length - 1, " "),
    "with a plus": "+12".padStart(length - 1, " "),
  };
}

function numbers(): CorpusLayer[] {
  return fields.flatMap(([field, length]) =>
    Object.entries(spellings(length)).map(([spelling, text]) => {
      const type = field === "major" || field === "minor" ? "3" : "0";
      const data = field === "size" ? "0123456789" : "";
      return {
        name: `${field} ${spelling}`,
        layer: archiveOf({ name: "f", type, magic: "gnu", data, [field]: text }, { name: "g", data: "after" }),
        ...(spelling === "with NULs before" ? { notAsTar: "GNU tar takes a NUL for the end" } : {}),
        ...(spelling === "in base 256, too large" ? { notAsTar: inexact, notAsContainerd: inexact } : {}),
        ...(type === "3" && /negative|34 bits/.test(spelling) ? { notAsContainerd: noDevice } : {}),
      };
    }),
  );
}

function sums(): CorpusLayer[] {
  const high = { name: "caf\xe9\xff\xfe", data: "x" } as const;
  const members: Readonly<Record<string, RawMember>> = {
    "of signed bytes": { ...high, sum: "signed" },
    "of unsigned bytes": { ...high, sum: "unsigned" },
    "without an end": { name: "f", sum: "text:00SUM " },
    "with blanks before": { name: "f", sum: "text: SUM \0" },
    "with two NULs": { name: "f", sum: "text:0SUM\0\0" },
    "of blanks": { name: "f", sum: "text:        " },
    "that is zero": { name: "f", sum: "text:000000\0 " },
    "that is wrong": { name: "f", sum: "text:007777\0 " },
    "that is no number": { name: "f", sum: "text:garbage " },
  };
  return Object.entries(members).map(([what, member]) => ({
    name: `a sum ${what}`,
    layer: archiveOf(member, { name: "g", data: "after" }),
  }));
}

function modes(): CorpusLayer[] {
  return [0, 0o7777, 0o4755, 0o2755, 0o1777, 0o100644, 0o120777, 0o777_7777].flatMap((mode) =>
    ["0", "5", "6", "3"].map((type) => ({
      name: `mode ${mode.toString(8)} of kind ${type}`,
      layer: archiveOf({ name: "x", type, mode, user: 7, group: 8, major: 1, minor: 3 }),
    })),
  );
}

/** Fields that only some formats have, with what other programs leave in them. */
function leftovers(): CorpusLayer[] {
  const times = { 345: "07346545000\0", 357: "07346545001\0" };
  return [
    { name: "times of access in a GNU header", layer: archiveOf({ name: "f", magic: "gnu", patches: times }) },
    {
      name: "no times of access in a GNU header",
      layer: archiveOf({ name: "f", magic: "gnu", patches: { 345: "rubbish" } }),
      notAsTar: noPrefix,
    },
    {
      name: "no times of access in a GNU header, with bytes",
      layer: archiveOf({ name: "f", magic: "gnu", patches: { 345: "rubb\xefsh" } }),
    },
    {
      name: "times of access in a star header",
      layer: archiveOf({ name: "f", magic: "star", patches: { 476: "07346545000\0", 488: "07346545001\0" } }),
    },
    {
      name: "a star header with a rubbish time",
      layer: archiveOf({ name: "f", magic: "star", patches: { 476: "rubbish" } }),
    },
    {
      name: "a magic without its version",
      layer: archiveOf({ name: "f", magic: "v7", patches: { 257: "ustar\0" }, prefix: "p" }),
    },
    { name: "a magic of nobody", layer: archiveOf({ name: "f", magic: "v7", patches: { 257: "USTAR\x0000" } }) },
    {
      name: "names of owners",
      layer: archiveOf({ name: "f", user: 7, group: 8, patches: { 265: "root\0", 297: "daemon\0" } }),
    },
    { name: "rubbish after the name", layer: archiveOf({ name: "f\0rubbish", linkName: "\0rubbish" }) },
    { name: "rubbish in the last bytes", layer: archiveOf({ name: "f", patches: { 500: "rubbish\0tar" } }) },
  ];
}

function ends(): CorpusLayer[] {
  const one = rawMember({ name: "f", data: "content" });
  const two = rawMember({ name: "g", data: "after" });
  const zeros = (blocks: number): Buffer => Buffer.alloc(blocks * 512);
  const endings: Readonly<Record<string, readonly Buffer[]>> = {
    "no end": [one],
    "one block of zeros": [one, zeros(1)],
    "one block of zeros in between": [one, zeros(1), two, zeros(2)],
    "a megabyte of zeros": [one, zeros(2048)],
    "rubbish after the end": [one, zeros(2), Buffer.from("rubbish")],
    "another archive after the end": [one, zeros(2), two, zeros(2)],
    "half a block of zeros": [one, Buffer.alloc(256)],
    "one and a half blocks of zeros": [one, Buffer.alloc(768)],
    "only zeros": [zeros(20)],
    nothing: [],
    "no padding at the end": [one.subarray(0, 512 + 7)],
  };
  return Object.entries(endings).map(([what, parts]) => ({
    name: `an archive with ${what}`,
    layer: Buffer.concat(parts),
  }));
}

/** Archives whose headers are written in many ways. */
export const headerLayers: readonly CorpusLayer[] = [
  ...kinds(),
  ...numbers(),
  ...sums(),
  ...modes(),
  ...leftovers(),
  ...ends(),
];
