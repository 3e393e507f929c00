import { layerOf, type Member } from "../layer-rig.ts";
import { type CorpusLayer, device, directory, file, hardLink, ownLayer, symlink } from "./corpus-layer.ts";

const below = layerOf(
  file("f", "below"),
  directory("d", { mode: 0o750, user: 7 }),
  file("d/one", "1"),
  file("d/two", "2"),
  directory("d/e"),
  file("d/e/three", "3"),
  symlink("s", "d"),
  symlink("broken", "nowhere"),
  hardLink("same", "f"),
);

const lists: Readonly<Record<string, readonly Member[]>> = {
  "of a file": [file(".wh.f")],
  "of a directory": [file(".wh.d")],
  "of a file in a directory": [file("d/.wh.one")],
  "of a symbolic link": [file(".wh.s")],
  "of a broken link": [file(".wh.broken")],
  "of one of two names": [file(".wh.same")],
  "of nothing": [file(".wh.nothing"), file("d/.wh.nothing")],
  twice: [file(".wh.f"), file(".wh.f")],
  "of a file that comes after": [file(".wh.f"), file("f", "new")],
  "of a file that came before": [file("f", "new"), file(".wh.f")],
  "of a directory that comes after": [file(".wh.d"), directory("d"), file("d/new")],
  "of a directory that came before": [directory("d"), file("d/new"), file(".wh.d")],
  "of a directory, and a file in it after": [file(".wh.d"), file("d/new", "new")],
  "of a directory, and a file in its place": [file(".wh.d"), file("d", "new")],
  "of a file, and a directory in its place": [file(".wh.f"), directory("f"), file("f/x")],
  "of a file with an owner and mode": [file(".wh.f", "", { mode: 0o600, user: 7, group: 8 })],
  "of a file with content": [file(".wh.f", "content of a whiteout")],
  "as a directory": [directory(".wh.f")],
  "as a link": [symlink(".wh.f", "x")],
  "as a device": [device(".wh.f")],
  "as a hard link": [file("x"), hardLink(".wh.f", "x")],
  "with attributes": [file(".wh.f", "", { attributes: { "user.note": "x" } })],
  "through a link": [file("s/.wh.one")],
  "with a trailing slash": [directory("d/.wh.e")],
  "below a whiteout": [file(".wh.d/x")],
  "with a name of bytes": [file(".wh.\xff")],
  "with the longest name": [file(`.wh.${"n".repeat(251)}`)],
  "of a whiteout": [file(".wh..wh.f")],
  "with the mark of aufs": [
    file(".wh..wh.plnk/x"),
    directory(".wh..wh.plnk"),
    directory(".wh..wh.orph"),
    file(".wh..wh.aufs"),
  ],
  "without a name": [file(".wh.")],
  "of the directory itself": [file("d/.wh..")],
  "of what is above": [file("d/.wh...")],
  "that is opaque": [file("d/.wh..wh..opq")],
  "that is opaque, with new files after it": [
    directory("d"),
    file("d/.wh..wh..opq"),
    file("d/new"),
    file("d/one", "new"),
  ],
  "that is opaque, with new files before it": [
    directory("d"),
    file("d/new"),
    file("d/one", "new"),
    file("d/.wh..wh..opq"),
  ],
  "that is opaque, with a new directory before it": [
    directory("d"),
    directory("d/e"),
    file("d/e/new"),
    file("d/.wh..wh..opq"),
  ],
  "that is opaque, without its directory": [file("new/.wh..wh..opq")],
  "that is opaque, at the top": [file(".wh..wh..opq"), file("new")],
  "that is opaque, at the top, late": [file("new"), directory("d"), file("d/two", "new"), file(".wh..wh..opq")],
  "that is opaque, through a link": [file("s/.wh..wh..opq")],
  "that is opaque, inside": [file("d/e/.wh..wh..opq")],
  "that is opaque, as a directory": [directory("d/.wh..wh..opq")],
  "that is opaque, twice": [file("d/.wh..wh..opq"), file("d/new"), file("d/.wh..wh..opq")],
  "of a directory, after files in it": [file("d/new"), file(".wh.d"), file("d/newer")],
};

/** What is not as containerd does it, and why. */
const notAs: Readonly<Record<string, Partial<CorpusLayer>>> = {
  twice: { overlayNotAsContainerd: "containerd fails at the second" },
  "of a file that came before": { notAsContainerd: ownLayer },
  "of a directory that came before": { notAsContainerd: ownLayer },
  "of a directory, after files in it": { notAsContainerd: ownLayer },
  "of a directory that comes after": { overlayNotAsContainerd: "containerd shows again what the whiteout has removed" },
  "through a link": { overlayNotAsContainerd: "both leave a name that is listed and cannot be looked up" },
};

/** Archives that remove. GNU tar knows nothing of that. */
export const whiteoutLayers: readonly CorpusLayer[] = Object.entries(lists).map(([what, members]) => ({
  name: `a whiteout ${what}`,
  below,
  layer: layerOf(...members),
  ...notAs[what],
  notAsTar: "whiteouts are ordinary files for GNU tar",
}));
