import { layerOf, type Member } from "../layer-rig.ts";
import { type CorpusLayer, device, directory, file, hardLink, pipe, symlink } from "./corpus-layer.ts";

/** @source linux/capability.h `vfs_cap_data` of version 2, CAP_NET_ADMIN */
const capability = "\x01\0\0\x02\0\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
/** @source linux/posix_acl_xattr.h: version, then tag, permissions and id of each entry */
const acl = `\x02\0\0\0${[
  "\x01\0\x06\0\xff\xff\xff\xff",
  "\x02\0\x07\0\x07\0\0\0",
  "\x04\0\x04\0\xff\xff\xff\xff",
  "\x10\0\x07\0\xff\xff\xff\xff",
  "\x20\0\x04\0\xff\xff\xff\xff",
].join("")}`;

const kinds: Readonly<Record<string, (attributes: Record<string, string>) => readonly Member[]>> = {
  file: (attributes) => [file("x", "content", { attributes, user: 7 })],
  directory: (attributes) => [directory("x", { attributes, user: 7 })],
  link: (attributes) => [symlink("x", "nowhere", { attributes })],
  pipe: (attributes) => [pipe("x", { attributes })],
  device: (attributes) => [device("x", { attributes })],
  "hard link": (attributes) => [file("f", "content", { user: 7 }), hardLink("x", "f", { attributes, user: 7 })],
};

const sets: Readonly<Record<string, Record<string, string>>> = {
  "of a user": { "user.note": "text" },
  "of a user with bytes": { "user.caf\xe9": "\0\xff\n=" },
  "of a user, empty": { "user.note": "" },
  "with an ACL": { "system.posix_acl_access": acl },
  "with a default ACL": { "system.posix_acl_default": acl },
  "with an ACL that is broken": { "system.posix_acl_access": "rubbish" },
  "with a capability": { "security.capability": capability },
  "with a capability that is broken": { "security.capability": "rubbish" },
  "that the kernel trusts": { "trusted.overlay.opaque": "y", "trusted.note": "x" },
  "of a name space that nobody knows": { "other.note": "x" },
  "without a name space": { note: "x" },
  "without a name": { "user.": "x" },
};

const lists: Readonly<Record<string, readonly Member[]>> = {
  "many attributes": [
    file("x", "", {
      attributes: Object.fromEntries(Array.from({ length: 40 }, (_, index) => [`user.a${index}`, `v${index}`])),
    }),
  ],
  "an attribute with the longest name": [file("x", "", { attributes: { [`user.${"n".repeat(250)}`]: "v" } })],
  "an attribute with too long a name": [file("x", "", { attributes: { [`user.${"n".repeat(251)}`]: "v" } })],
  "an attribute of 3,000 bytes": [file("x", "", { attributes: { "user.big": "v".repeat(3000) } })],
  "an attribute of 70,000 bytes": [file("x", "", { attributes: { "user.big": "v".repeat(70_000) } })],
  "a capability on a file whose mode has setuid": [
    file("x", "c", { mode: 0o4755, attributes: { "security.capability": capability } }),
  ],
  "a capability, and a hard link without": [
    file("x", "c", { mode: 0o755, user: 7, attributes: { "security.capability": capability } }),
    hardLink("l", "x", { mode: 0o755, user: 7 }),
  ],
  "an attribute on both names": [
    file("x", "c", { attributes: { "user.one": "1" } }),
    hardLink("l", "x", { attributes: { "user.two": "2" } }),
  ],
  "a file replaced by one without attributes": [file("x", "c", { attributes: { "user.one": "1" } }), file("x", "d")],
  "a directory again without attributes": [directory("x", { attributes: { "user.one": "1" } }), directory("x")],
  "files in a directory with a default ACL": [
    directory("x", { attributes: { "system.posix_acl_default": acl } }),
    file("x/f", "", { mode: 0o640 }),
    directory("x/d", { mode: 0o750 }),
    pipe("x/p", { mode: 0o660 }),
  ],
  "a file in a implied directory below a default ACL": [
    directory("x", { attributes: { "system.posix_acl_default": acl } }),
    file("x/implied/f", "", { mode: 0o640 }),
  ],
};

/** Archives with extended attributes. */
export const attributeLayers: readonly CorpusLayer[] = [
  ...Object.entries(kinds).flatMap(([kind, make]) =>
    Object.entries(sets).map(([what, attributes]) => ({
      name: `${kind} with an attribute ${what}`,
      layer: layerOf(...make(attributes)),
      notAsTar: "GNU tar takes some attributes from no archive, and sets others before the owner",
    })),
  ),
  ...Object.entries(lists).map(([name, members]) => ({
    name,
    layer: layerOf(...members),
    ...(name.startsWith("a capability, and")
      ? { notAsContainerd: "containerd sets the owner again, which takes the capability" }
      : {}),
    notAsTar: "GNU tar sets attributes before owners, and none on hard links",
  })),
];
