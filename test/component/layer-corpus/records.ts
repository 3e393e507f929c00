import type { CorpusLayer } from "./corpus-layer.ts";
import { archiveOf, paxHeader, paxRecord, type RawMember, rawMember } from "./raw-member.ts";

const member: RawMember = { name: "f", data: "content" };
const after: RawMember = { name: "g", data: "after" };

/** Values of single records. */
function values(): CorpusLayer[] {
  const times = [
    "1",
    "1.",
    "1.5",
    "01.500000000",
    "1.123456789999",
    "-1.5",
    "-1",
    ".5",
    "-.5",
    "1e3",
    "1,5",
    " 1",
    "0x1",
    "",
    "-0.25",
    "9223372036",
    "9223372036.999999999",
    "9223372037",
    "99999999999999999999",
    "4294967296.1",
    "1.5.5",
  ];
  const ids = [
    "1",
    "0",
    "-1",
    "+1",
    "01",
    "",
    "1.0",
    "2147483647",
    "2147483648",
    "4294967294",
    "4294967295",
    "4294967296",
    "99999999999999999999",
    "0x1",
  ];
  const sizes = ["7", "007", "0", "", "-7", "+7", "7.0", "8", "99999999999999999999"];
  const names = [
    "long/".repeat(30) + "f",
    "n".repeat(255),
    "caf\xe9",
    "\xff\xfe",
    "a\nb",
    "a=b",
    "",
    "f/",
    "./f",
    "d/",
    "\x01\x02",
  ];
  const of = (key: string, list: readonly string[], what: RawMember = member): CorpusLayer[] =>
    list.map((value) => ({
      name: `record ${key}=${JSON.stringify(value)}`,
      layer: archiveOf(paxHeader([[key, value]]), what, after),
    }));
  return [
    ...of("mtime", times),
    ...of("atime", ["1", "2000000000.5", "x", "-1"]),
    ...of("ctime", ["1", "x"]),
    ...of("uid", ids),
    ...of("gid", ids),
    ...of("size", sizes),
    ...of("path", names),
    ...of("linkpath", ["g", "caf\xe9", "l".repeat(300), "", "x/../y"], { name: "l", type: "2", linkName: "target" }),
    ...of("uname", ["root", "nobody-at-all"]),
    ...of("charset", ["BINARY"]),
    ...of("hdrcharset", ["BINARY", "ISO-IR 10646 2000 UTF-8"]),
    ...of("comment", ["something"]),
    ...of("SCHILY.dev", ["1"]),
    ...of("SCHILY.devmajor", ["7"], { name: "c", type: "3", major: 1, minor: 3 }),
    ...of("SCHILY.realsize", ["9"]),
    ...of("LIBARCHIVE.xattr.user.note", ["dGV4dA"]),
    ...of("LIBARCHIVE.creationtime", ["1"]),
    ...of("RHT.security.selinux", ["system_u:object_r:etc_t:s0"]),
  ];
}

/** What is not as the others do it, and why. */
const notAs: Readonly<Record<string, Partial<CorpusLayer>>> = {
  "a global header in a directory": { notAsContainerd: "containerd makes the directories of the header's own name" },
  "a global header with a name": { notAsTar: "GNU tar applies it to all that follows, containerd to nothing" },
  "a long name of 4,096 bytes": {
    notAsContainerd: "containerd has less room, since its names begin with its directory",
  },
  "a long name and a pax header": { notAsTar: "GNU tar takes the pax header, containerd the long name" },
  "a pax header and a long name": { notAsTar: "GNU tar takes the pax header, containerd the long name" },
};

/** Headers that break the rules, or stand where they should not. */
function structures(): CorpusLayer[] {
  const body = (data: string): Buffer => rawMember({ name: "x", type: "x", data });
  const bodies: Readonly<Record<string, string>> = {
    "an empty pax header": "",
    "a record that is too short": "5 a=b\n",
    "a record that is too long": "99 a=b\n",
    "a record without a length": "a=b\n",
    "a record without a key": "5 =b\n",
    "a record without an equals sign": "6 abc\n",
    "a record without a line end": "6 a=bc",
    "a record with a length of zero": "0 a=b\n",
    "a record with a length with zeros": "0000006 a=b\n",
    "a record with a huge length": "99999999999999999999999 a=b\n",
    "a record with a negative length": "-6 a=b\n",
    "a record with NUL in its key": "8 a\0b=c\n",
    "a record with NUL in a name": paxRecord("path", "a\0b"),
    "a record with NUL in a comment": paxRecord("comment", "a\0b"),
    "records with NULs after them": `${paxRecord("path", "renamed")}\0\0\0`,
    "two records of one key": paxRecord("path", "first") + paxRecord("path", "second"),
    "a record and its removal": paxRecord("path", "first") + paxRecord("path", ""),
    "a thousand records": Array.from({ length: 1000 }, (_, index) => paxRecord(`comment.${index}`, "x")).join(""),
  };
  const longName = (type: "L" | "K", data: string, rest: Partial<RawMember> = {}): Buffer =>
    rawMember({ name: "././@LongLink", type, magic: "gnu", data, ...rest });
  const link: RawMember = { name: "l", type: "2", linkName: "short", magic: "gnu" };
  const others: Readonly<Record<string, Buffer>> = {
    "two pax headers in a row": archiveOf(paxHeader([["path", "first"]]), paxHeader([["mtime", "5"]]), member, after),
    "a pax header for nobody": Buffer.concat([rawMember(member), paxHeader([["path", "x"]])]),
    "a pax header before the end": archiveOf(member, paxHeader([["path", "x"]])),
    "a global header": archiveOf(paxHeader([["comment", "x"]], "g"), member),
    "a global header in a directory": archiveOf(
      rawMember({ name: "d/x", type: "g", data: paxRecord("comment", "x") }),
      member,
    ),
    "a global header with a name": archiveOf(
      paxHeader(
        [
          ["path", "renamed"],
          ["mtime", "5"],
        ],
        "g",
      ),
      member,
      after,
    ),
    "a broken global header": archiveOf(rawMember({ name: "x", type: "g", data: "99 a=b\n" }), member),
    "a header of Solaris": archiveOf(rawMember({ name: "x", type: "X", data: paxRecord("path", "renamed") }), member),
    "a long name": archiveOf(longName("L", `${"long/".repeat(50)}name\0`), { ...member, magic: "gnu" }, after),
    "a long name without NUL": archiveOf(longName("L", "long-name"), { ...member, magic: "gnu" }, after),
    "a long name with rubbish after NUL": archiveOf(longName("L", "long-name\0rubbish"), { ...member, magic: "gnu" }),
    "an empty long name": archiveOf(longName("L", "\0"), { ...member, magic: "gnu" }),
    "a long name of no bytes": archiveOf(longName("L", ""), { ...member, magic: "gnu" }),
    "a long target": archiveOf(longName("K", `${"t".repeat(300)}\0`), link),
    "a long name and a long target": archiveOf(
      longName("K", `${"t".repeat(150)}\0`),
      longName("L", `${"n".repeat(150)}\0`),
      link,
    ),
    "two long names": archiveOf(longName("L", "first\0"), longName("L", "second\0"), member),
    "a long name and a pax header": archiveOf(longName("L", "long\0"), paxHeader([["path", "pax"]]), member),
    "a pax header and a long name": archiveOf(paxHeader([["path", "pax"]]), longName("L", "long\0"), member),
    "a long name that ends in a slash": archiveOf(longName("L", "d/\0"), { name: "x", type: "\0", magic: "gnu" }),
    "a long name of 4,096 bytes": archiveOf(longName("L", `${"d".repeat(254)}/`.repeat(16) + "f".repeat(16)), member),
    "a long name for nobody": archiveOf(longName("L", "nobody\0")),
    "a long name of two megabytes": archiveOf(longName("L", "n".repeat(2 * 1024 * 1024)), member),
  };
  return [
    ...Object.entries(bodies).map(([name, data]) => ({ name, layer: archiveOf(body(data), member, after) })),
    ...Object.entries(others).map(([name, layer]) => ({ name, layer, ...notAs[name] })),
  ];
}

/** Archives with pax records and GNU's long names. */
export const recordLayers: readonly CorpusLayer[] = [...values(), ...structures()];
