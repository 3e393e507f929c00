import { MemberType } from "#tar/tar-format.ts";
import { layerOf, type Member } from "../layer-rig.ts";
import { type CorpusLayer, device, directory, file, hardLink, ownLayer, pipe, symlink } from "./corpus-layer.ts";

const deep = `${"d".repeat(250)}/`.repeat(15);

/** Names of files. */
function names(): CorpusLayer[] {
  const climbs = "GNU tar refuses or renames what climbs out, and gives the top directory what is said of it";
  const list: readonly string[] = [
    "/absolute",
    "//doubly",
    "./f",
    "a//b",
    "a/./b",
    "a/../b",
    "../f",
    "a/../../b",
    "caf\xe9",
    "\xc3\xa9t\xc3\xa9",
    "\xff\xfe\x80",
    "line\nbreak",
    "tab\tand\\slash",
    "\x01\x7f",
    " ",
    "-rf",
    "--",
    "*",
    "...",
    "..f",
    ".wh",
    "wh.f",
    ".who",
    "x.wh.y",
    "n".repeat(255),
    "n".repeat(256),
    `${deep}${"f".repeat(200)}`,
    `${deep}${"f".repeat(330)}`,
    `${deep}${"e".repeat(255)}/${"f".repeat(75)}`,
    "d/".repeat(500) + "f",
    "d/".repeat(2000) + "f",
    "a:b",
    "C:\\x",
    "host:path",
    "f/",
    "./",
    "\u00a0",
    "emoji\xf0\x9f\x90\xb3",
  ];
  return list.map((name, index) => ({
    name: `name ${index}: ${JSON.stringify(name.length > 60 ? `${name.slice(0, 40)}… (${name.length})` : name)}`,
    layer: layerOf({ name, data: name.endsWith("/") ? "" : "content" }),
    ...(name.includes("..") || name.startsWith("/") || name === "./" ? { notAsTar: climbs } : {}),
    ...(name.length > 4000
      ? { notAsContainerd: "containerd has less room, since its names begin with its directory" }
      : {}),
  }));
}

const one: Readonly<Record<string, (name: string) => readonly Member[]>> = {
  file: (name) => [file(name, "new", { mode: 0o600 })],
  "empty directory": (name) => [directory(name, { mode: 0o700 })],
  "full directory": (name) => [directory(name), file(`${name}/inside`, "inside"), directory(`${name}/deeper`)],
  "link to a file": (name) => [symlink(name, "target-file")],
  "link to a directory": (name) => [symlink(name, "target-directory")],
  "link to nothing": (name) => [symlink(name, "nothing")],
  "hard link": (name) => [hardLink(name, "target-file")],
  pipe: (name) => [pipe(name, { mode: 0o620 })],
  device: (name) => [device(name)],
};

const replaced = "containerd fails, as it sets the times of a directory that has been replaced";

const targets = [file("target-file", "target"), directory("target-directory"), file("target-directory/x", "x")];

/** Everything in the place of everything, in the same layer and over another one. */
function replacements(): CorpusLayer[] {
  const kinds = Object.entries(one);
  return kinds.flatMap(([before, makeBefore]) =>
    kinds.flatMap(([after, makeAfter]) => [
      {
        name: `${after} in the place of ${before}`,
        layer: layerOf(...targets, ...makeBefore("x"), ...makeAfter("x")),
        notAsTar: "GNU tar keeps directories, and links to them, that are in the way",
        ...(before.endsWith(" directory") ? { notAsContainerd: replaced } : {}),
      },
      {
        name: `${after} over ${before}`,
        below: layerOf(...targets, ...makeBefore("x")),
        layer: layerOf(...makeAfter("x")),
        notAsTar: "GNU tar keeps directories, and links to them, that are in the way",
      },
    ]),
  );
}

/** Links of both kinds. */
function links(): CorpusLayer[] {
  const lists: Readonly<Record<string, readonly Member[]>> = {
    "a hard link with another mode, owner and time": [
      file("f", "x", { mode: 0o600, user: 7, group: 8 }),
      hardLink("l", "f", { mode: 0o755, user: 9, group: 10, modified: { seconds: 5, nanoseconds: 0 } }),
    ],
    "a hard link to a setuid file": [file("f", "x", { mode: 0o4755 }), hardLink("l", "f", { mode: 0o4755 })],
    "a hard link that takes setuid away": [file("f", "x", { mode: 0o4755 }), hardLink("l", "f", { mode: 0o755 })],
    "three names": [file("f", "x"), hardLink("a/l", "f"), hardLink("b/l", "a/l")],
    "a hard link to what comes later": [hardLink("l", "f"), file("f", "x")],
    "a hard link to nothing": [hardLink("l", "nothing")],
    "a hard link to itself": [file("f", "x"), hardLink("f", "f")],
    "a hard link to a directory": [directory("d"), hardLink("l", "d")],
    "a hard link to a symbolic link": [symlink("s", "nowhere"), hardLink("l", "s")],
    "a hard link to a link to a file": [file("f", "x"), symlink("s", "f"), hardLink("l", "s")],
    "a hard link to a pipe": [pipe("p"), hardLink("l", "p")],
    "a hard link to a device": [device("c"), hardLink("l", "c")],
    "a hard link with an absolute target": [file("f", "x"), hardLink("l", "/f")],
    "a hard link with dots": [file("f", "x"), directory("d"), hardLink("d/l", "d/../f")],
    "a hard link that climbs": [file("f", "x"), hardLink("l", "../../f")],
    "a hard link through a link": [directory("d"), file("d/f", "x"), symlink("s", "d"), hardLink("l", "s/f")],
    "a hard link without a target": [hardLink("l", "")],
    "a hard link and its first name replaced": [file("f", "x"), hardLink("l", "f"), file("f", "new")],
    "a hard link replaced": [file("f", "x"), hardLink("l", "f"), file("l", "new")],
    "a symbolic link without a target": [symlink("s", "")],
    "a symbolic link with an owner and time": [
      symlink("s", "x", { user: 7, group: 8, modified: { seconds: 77, nanoseconds: 0 } }),
    ],
    "a symbolic link with a long target": [symlink("s", "t/".repeat(2047))],
    "a symbolic link with too long a target": [symlink("s", "t/".repeat(2048))],
    "a symbolic link with bytes": [symlink("s", "\xff\n\x01")],
    "a file through a link to a directory": [directory("d"), symlink("s", "d"), file("s/f", "x")],
    "a file through an absolute link": [directory("d"), symlink("s", "/d"), file("s/f", "x")],
    "a file through a link to nothing": [symlink("s", "nothing/yet"), file("s/f", "x")],
    "a file through a link that climbs": [directory("a"), symlink("a/s", "../../../b"), file("a/s/f", "x")],
    "a file through a link to a file": [file("f", "x"), symlink("s", "f"), file("s/g", "y")],
    "a file through a loop": [symlink("a", "b"), symlink("b", "a"), file("a/f", "x")],
    "a file through a chain": [symlink("a", "b"), symlink("b", "c"), directory("c"), file("a/f", "x")],
    "a directory through a link": [
      directory("d", { mode: 0o700 }),
      symlink("s", "d"),
      directory("s/e", { mode: 0o711 }),
    ],
    "a directory with the name of a link": [
      directory("d", { mode: 0o700 }),
      symlink("s", "d"),
      directory("s", { mode: 0o711 }),
    ],
    "a whiteout of a new file, through a link": [directory("d"), file("d/f"), symlink("s", "d"), file("s/.wh.f")],
    "a file below a file": [file("f"), file("f/g")],
    "a file below a pipe": [pipe("p"), file("p/g")],
  };
  return Object.entries(lists).map(([name, members]) => ({
    name,
    layer: layerOf(...members),
    ...(name === "a whiteout of a new file, through a link" ? { notAsContainerd: ownLayer } : {}),
    notAsTar: "GNU tar does not keep links within its directory, and may put off making them",
  }));
}

/** Links into another layer, which become copies of the file in an overlay. */
function linksOverLayers(): CorpusLayer[] {
  const below = layerOf(
    file("f", "below", { mode: 0o640, user: 7 }),
    hardLink("second", "f"),
    directory("d"),
    file("d/g", "deep"),
    symlink("way", "d"),
  );
  const lists: Readonly<Record<string, readonly Member[]>> = {
    "a hard link to a file of another layer": [hardLink("l", "f", { mode: 0o640, user: 7 })],
    "a hard link to a replaced file of another layer": [file("f", "new"), hardLink("l", "f")],
    "a hard link through a link of another layer": [hardLink("l", "way/g")],
    "a file through a link of another layer": [file("way/new", "new")],
    "a file in a directory of another layer": [file("d/new", "new")],
  };
  return Object.entries(lists).map(([name, members]) => ({
    name,
    below,
    layer: layerOf(...members),
    notAsTar: "GNU tar follows links out of its directory, and gives what was there other times",
  }));
}

const noDevice = "a number that no device has is refused, not cut to the number of another device";
/** What is not as the others do it, and why. */
const notAs: Readonly<Record<string, Partial<CorpusLayer>>> = {
  "a user of 60 bits": {
    notAsContainerd: "numbers of more than 53 bits are not exact, and nothing has any that large",
  },
  "the top directory": { notAsTar: "layers do not describe the top directory" },
  "a setgid directory and an implied one": { notAsTar: "GNU tar gives implied directories another group" },
};

/** Order and repetition. */
function orders(): CorpusLayer[] {
  const lists: Readonly<Record<string, readonly Member[]>> = {
    "a file before its directory": [file("d/f", "x"), directory("d", { mode: 0o700, user: 7 })],
    "a directory twice": [
      directory("d", { mode: 0o700, user: 7 }),
      file("d/f"),
      directory("d", { mode: 0o711, user: 8 }),
    ],
    "a file twice": [file("f", "first", { mode: 0o600, user: 7 }), file("f", "second")],
    "a hundred times the same file": Array.from({ length: 100 }, (_, index) => file("f", `${index}`)),
    "directories without write permission": [
      directory("d", { mode: 0o555 }),
      file("d/f", "x"),
      directory("d/e", { mode: 0 }),
    ],
    "a setgid directory": [
      directory("d", { mode: 0o2775, group: 7 }),
      file("d/f"),
      directory("d/e"),
      directory("implied/x"),
    ],
    "a setgid directory and an implied one": [directory("d", { mode: 0o2775, group: 7 }), file("d/a/b/f")],
    "the top directory": [directory(".", { mode: 0o711, user: 7 }), file("f")],
    "numbers of users": [2 ** 31 - 1, 2 ** 31, 2 ** 32 - 2].map((user) => file(`f${user}`, "", { user, group: user })),
    "a user that means nobody": [file("f", "", { user: 2 ** 32 - 1, group: 2 ** 32 - 1 })],
    "a user beyond 32 bits": [file("f", "", { user: 2 ** 32 + 7, group: 2 ** 33 + 8 })],
    "a user of 60 bits": [directory("f", { user: 2 ** 60, group: 2 ** 60 })],
    "a file with the type of a directory in its mode": [file("f", "x", { mode: 0o040755 })],
    "a kind that nobody knows": [{ name: "f", type: "Z" }],
    "a file of a megabyte": [file("f", "x".repeat(1024 * 1024 + 1))],
    "a file of zeros": [file("f", "\0".repeat(300_000))],
    "devices with large numbers": [
      [0, 0],
      [1, 255],
      [255, 256],
      [259, 1_048_575],
      [4095, 0],
    ].flatMap(([deviceMajor = 0, deviceMinor = 0]) => [
      device(`c${deviceMajor}-${deviceMinor}`, { deviceMajor, deviceMinor }),
    ]),
  };
  const singles = [
    [4095, 1],
    [4096, 1],
    [1, 1_048_575],
    [1, 1_048_576],
    [0o7777777, 1],
  ].flatMap(([deviceMajor = 0, deviceMinor = 0]) =>
    [MemberType.Character, MemberType.Block].map((type) => ({
      name: `device ${deviceMajor}:${deviceMinor} of kind ${type}`,
      layer: layerOf(device("x", { type, deviceMajor, deviceMinor })),
      ...(deviceMajor > 4095 || deviceMinor > 1_048_575 ? { notAsContainerd: noDevice } : {}),
    })),
  );
  return [
    ...Object.entries(lists).map(([name, members]) => ({ name, layer: layerOf(...members), ...notAs[name] })),
    ...singles,
  ];
}

/** Archives whose members meet. */
export const nameLayers: readonly CorpusLayer[] = [
  ...names(),
  ...replacements(),
  ...links(),
  ...linksOverLayers(),
  ...orders(),
];
