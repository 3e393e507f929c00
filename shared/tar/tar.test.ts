import assert from "node:assert/strict";
import test from "node:test";
import * as fc from "fast-check";
import { asByteString, type ByteString, toByteString } from "#linux/bytes.ts";
import { MemberType, type TarMember } from "./tar-format.ts";
import { TarReader } from "./tar-reader.ts";
import type { TarSink } from "./tar-sink.ts";
import { archiveEnd, encodeMember, paddingOf } from "./tar-writer.ts";

/** What a sink was told: members with their content, holes as their size. */
interface Read {
  readonly member: TarMember;
  content: (Buffer | number)[];
  finished: boolean;
}

function collect(): TarSink & { readonly read: Read[] } {
  const read: Read[] = [];
  const last = (): Read => read.at(-1) ?? assert.fail("content before a member");
  return {
    read,
    begin: (member) => read.push({ member, content: [], finished: false }),
    content: (data) => last().content.push(Buffer.from(data)),
    hole: (sizeBytes) => last().content.push(sizeBytes),
    finish: () => {
      last().finished = true;
    },
  };
}

function readArchive(archive: Buffer, pieceBytes = archive.length): Read[] {
  const sink = collect();
  const reader = new TarReader(sink);
  for (let offset = 0; offset < archive.length; offset += pieceBytes) {
    reader.write(archive.subarray(offset, offset + pieceBytes));
  }
  reader.end();
  return sink.read;
}

const plain: TarMember = {
  name: toByteString("file"),
  type: MemberType.Regular,
  linkName: asByteString(""),
  mode: 0o644,
  user: 0,
  group: 0,
  sizeBytes: 0,
  modified: { seconds: 1, nanoseconds: 0 },
  accessed: undefined,
  deviceMajor: 0,
  deviceMinor: 0,
  attributes: new Map(),
};

function archiveOf(...members: readonly (Partial<TarMember> & { readonly data?: Buffer })[]): Buffer {
  const parts = members.flatMap(({ data = Buffer.alloc(0), ...changes }) => [
    encodeMember({ ...plain, sizeBytes: data.length, ...changes }),
    data,
    paddingOf(data.length),
  ]);
  return Buffer.concat([...parts, archiveEnd]);
}

/** Changes a header block and makes its checksum right again. */
function patch(archive: Buffer, at: number, change: (block: Buffer) => void): Buffer {
  const patched = Buffer.from(archive);
  const block = patched.subarray(at, at + 512);
  change(block);
  block.fill(" ", 148, 156);
  const sum = block.reduce((total, value) => total + value, 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return patched;
}

const invalid = { message: "archive/tar: invalid tar header" };
const cut = { message: "unexpected EOF" };

const byteText = (lengthMax: number): fc.Arbitrary<ByteString> =>
  fc
    .array(fc.integer({ min: 1, max: 255 }), { minLength: 1, maxLength: lengthMax })
    .map((bytes) => asByteString(Buffer.from(bytes).toString("latin1")));

const number = fc.oneof(fc.nat(), fc.integer({ min: 0, max: 2 ** 50 }));

const member: fc.Arbitrary<{ member: TarMember; data: Buffer }> = fc
  .record({
    name: fc.oneof(
      byteText(300),
      fc.constantFrom("a".repeat(100), `${"d/".repeat(70)}f`, "x".repeat(101)).map(toByteString),
    ),
    type: fc.constantFrom("0", "1", "2", "3", "4", "5", "6"),
    linkName: byteText(200),
    mode: fc.integer({ min: 0, max: 0o7777 }),
    user: number,
    group: number,
    seconds: fc.integer({ min: -(2 ** 40), max: 2 ** 40 }),
    device: fc.integer({ min: 0, max: 0o7777777 }),
    data: fc.uint8Array({ maxLength: 1500 }),
    attributes: fc.array(fc.tuple(fc.constantFrom("user.a", "user.ü", "security.capability"), fc.uint8Array()), {
      maxLength: 3,
    }),
  })
  .map(({ seconds, device, data, attributes, ...rest }) => {
    const content = rest.type === MemberType.Regular ? Buffer.from(data) : Buffer.alloc(0);
    return {
      member: {
        ...rest,
        sizeBytes: content.length,
        modified: { seconds, nanoseconds: 0 },
        accessed: undefined,
        deviceMajor: device,
        deviceMinor: device,
        attributes: new Map(attributes.map(([key, value]) => [toByteString(key), Buffer.from(value)])),
      },
      data: content,
    };
  });

test("what is written is read again, in pieces of any size", () => {
  fc.assert(
    fc.property(fc.array(member, { maxLength: 5 }), fc.integer({ min: 1, max: 3000 }), (members, pieceBytes) => {
      const archive = archiveOf(...members.map(({ member: changes, data }) => ({ ...changes, data })));
      const read = readArchive(archive, pieceBytes);
      assert.deepEqual(
        read.map(({ member: found }) => found),
        members.map(({ member: written }) => written),
      );
      for (const [index, { data }] of members.entries()) {
        assert.deepEqual(Buffer.concat((read[index]?.content ?? []) as Buffer[]), data);
      }
    }),
  );
});

test("no bytes do more than be refused, and every end too early is told", () => {
  const archive = archiveOf(
    { name: toByteString("n".repeat(150)), data: Buffer.alloc(700) },
    { type: MemberType.Symlink, linkName: toByteString("l".repeat(150)) },
  );
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(archive.length - 1), fc.nat(255)), { maxLength: 4 }),
      fc.nat(archive.length),
      (changes, length) => {
        const changed = Buffer.from(archive.subarray(0, length));
        for (const [at, value] of changes.filter(([place]) => place < length)) {
          changed[at] = value;
        }
        try {
          readArchive(changed, 600);
        } catch (error) {
          assert.match((error as Error).message, /^(?:archive\/tar: .*|unexpected EOF)$/);
        }
      },
    ),
    { numRuns: 500 },
  );
});

test("an archive may end after any member, with one block of zeros or none", () => {
  const archive = archiveOf({ data: Buffer.from("12345") }, {});
  for (const length of [0, 512 + 5, 512 + 100, 1024, 1536, 2048, 2560]) {
    assert.ok(
      readArchive(archive.subarray(0, length)).every(({ finished }) => finished),
      String(length),
    );
  }
  for (const length of [1, 511, 513, 512 + 4, 1025, 1537, 2049]) {
    assert.throws(() => readArchive(archive.subarray(0, length)), cut, String(length));
  }
});

test("what follows the end of an archive is passed over, what follows one block of zeros is not", () => {
  const archive = archiveOf({});
  assert.equal(readArchive(Buffer.concat([archive, Buffer.from("rubbish")])).length, 1);
  assert.throws(() => readArchive(Buffer.concat([archive.subarray(0, 1024), archiveOf({})])), invalid);
});

test("wrong checksums and numbers are refused", () => {
  const archive = archiveOf({});
  const wrong = Buffer.from(archive);
  wrong.write("X", 0);
  assert.throws(() => readArchive(wrong), invalid);
  for (const field of [100, 108, 116, 124, 136, 329, 337]) {
    for (const text of ["9\0", "-1\0", "1x\0", "1 2\0"]) {
      assert.throws(() => readArchive(patch(archive, 0, (block) => block.write(text, field))), invalid, text);
    }
  }
});

test("a signed checksum is as good as an unsigned one", () => {
  const archive = archiveOf({});
  archive.write("\xff\xfe", 0, "latin1");
  archive.fill(" ", 148, 156);
  const sum = archive.subarray(0, 512).reduce((total, value) => total + ((value << 24) >> 24), 0);
  archive.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  assert.equal(readArchive(archive)[0]?.member.name, "\xff\xfele");
});

test("numbers in base 256, also negative ones", () => {
  const set = (field: number, ...bytes: number[]): TarMember | undefined =>
    readArchive(patch(archiveOf({ type: MemberType.Directory }), 0, (block) => block.set(bytes, field)))[0]?.member;
  assert.equal(set(108, 0x80, 0, 0, 1, 0, 0, 0, 2)?.user, 2 ** 32 + 2);
  assert.equal(set(136, 0xff, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 254)?.modified.seconds, -2);
  assert.equal(set(124, 0x80, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0)?.sizeBytes, 2 ** 62);
  assert.throws(() => set(124, 0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0), invalid);
  assert.throws(() => set(124, 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0), invalid);
});

test("sizes that nobody has are refused, or end with the archive", () => {
  const negative = patch(archiveOf({}), 0, (block) => block.fill(0xff, 124, 136));
  assert.throws(() => readArchive(negative), invalid);
  const huge = patch(archiveOf({}), 0, (block) => block.set([0x80, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0], 124));
  assert.throws(() => readArchive(huge), cut);
});

test("only what has content may have a size", () => {
  for (const type of ["1", "2", "3", "4", "5", "6"]) {
    const archive = patch(archiveOf({ type }, {}), 0, (block) => block.write("00000001000\0", 124));
    assert.equal(readArchive(archive).length, 2, type);
  }
});

test("headers that are too large are refused before they are read", () => {
  for (const type of ["x", "g", "L", "K"]) {
    const archive = patch(archiveOf({ type }), 0, (block) => block.write("77777777777\0", 124));
    assert.throws(() => readArchive(archive), { message: "archive/tar: header field too long" }, type);
  }
});

test("GNU long names and links hold for the next member alone", () => {
  const long = toByteString("a/".repeat(300));
  const link = toByteString("b/".repeat(300));
  const archive = archiveOf(
    { type: "L", data: Buffer.from(`${long}\0rest`) },
    { type: "K", data: Buffer.from(`${link}\0`) },
    { type: MemberType.Symlink, linkName: toByteString("short") },
    {},
  );
  const [first, second] = readArchive(archive, 77);
  assert.deepEqual([first?.member.name, first?.member.linkName], [long, link]);
  assert.deepEqual([second?.member.name, second?.member.linkName], ["file", ""]);
});

test("old archives mark directories by a slash", () => {
  const old = (name: string): Buffer =>
    patch(archiveOf({ name: toByteString(name) }), 0, (block) => block.fill(0, 156, 157).fill(0, 257, 512));
  assert.equal(readArchive(old("d/"))[0]?.member.type, MemberType.Directory);
  assert.equal(readArchive(old("f"))[0]?.member.type, MemberType.Regular);
});

function pax(records: Record<string, string>): { readonly type: string; readonly data: Buffer } {
  const lines = Object.entries(records).map(([key, value]) => {
    const rest = ` ${key}=${value}\n`;
    const length = [1, 2, 3, 4]
      .map((digits) => rest.length + digits)
      .find((sum) => String(sum).length === sum - rest.length);
    return `${length}${rest}`;
  });
  return { type: "x", data: Buffer.from(lines.join(""), "latin1") };
}

test("pax records replace fields; empty ones and global ones do not", () => {
  const archive = archiveOf(
    { ...pax({ path: "global" }), type: "g" },
    pax({ path: "p", linkpath: "l", uid: "7", gid: "-8", mtime: "3.25", atime: "-1.5", uname: "u", other: "o" }),
    { type: MemberType.Symlink, linkName: toByteString("x") },
    pax({ path: "", mtime: "-0.000000001" }),
    {},
  );
  const [first, second] = readArchive(archive);
  assert.deepEqual(first?.member, {
    ...plain,
    type: MemberType.Symlink,
    name: "p",
    linkName: "l",
    user: 7,
    group: -8,
    modified: { seconds: 3, nanoseconds: 250_000_000 },
    accessed: { seconds: -2, nanoseconds: 500_000_000 },
  });
  assert.deepEqual(second?.member, { ...plain, modified: { seconds: -1, nanoseconds: 999_999_999 } });
  for (const records of [{ uid: "x" }, { size: "1e3" }, { mtime: "1.x" }, { mtime: "", gid: "99999999999999999999" }]) {
    assert.throws(() => readArchive(archiveOf(pax(records), {})), invalid);
  }
});

test("a sparse file is told as data and holes", () => {
  const records = {
    "GNU.sparse.map": "2,3,10,1",
    "GNU.sparse.numblocks": "2",
    "GNU.sparse.size": "20",
    "GNU.sparse.name": "real",
  };
  const [read] = readArchive(archiveOf(pax(records), { data: Buffer.from("abcd") }), 1);
  assert.deepEqual([read?.member.name, read?.member.sizeBytes], ["real", 20]);
  const merged = read?.content.reduce<(string | number)[]>((parts, part) => {
    const before = parts.at(-1);
    return typeof before === "string" && typeof part !== "number"
      ? [...parts.slice(0, -1), before + part.toString()]
      : [...parts, typeof part === "number" ? part : part.toString()];
  }, []);
  assert.deepEqual(merged, [2, "abc", 5, "d", 9]);
});

test("a sparse map that does not fit the data is refused", () => {
  const sparse = (map: string, size: string, data: string): Buffer =>
    archiveOf(pax({ "GNU.sparse.map": map, "GNU.sparse.numblocks": "1", "GNU.sparse.size": size }), {
      data: Buffer.from(data),
    });
  assert.throws(() => readArchive(sparse("0,5", "10", "abcd")), {
    message: "archive/tar: sparse file references non-existent data",
  });
  assert.throws(() => readArchive(sparse("0,3", "10", "abcd")), {
    message: "archive/tar: sparse file contains unreferenced data",
  });
  assert.throws(() => readArchive(sparse("8,4", "10", "abcd")), invalid);
  const inContent = { "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "10" };
  assert.throws(() => readArchive(archiveOf(pax(inContent), { data: Buffer.from("1\n") })), cut);
});

test("headers are the bytes that other programs write", () => {
  const header = encodeMember({
    ...plain,
    name: toByteString("dir/file"),
    mode: 0o4755,
    user: 1000,
    group: 100,
    sizeBytes: 5,
  });
  assert.equal(header.length, 512);
  assert.equal(header.toString("latin1", 0, 9), "dir/file\0");
  assert.equal(
    header.toString("latin1", 100, 157),
    "0004755\0" +
      "0001750\0" +
      "0000144\0" +
      "00000000005\0" +
      "00000000001\0" +
      header.toString("latin1", 148, 156) +
      "0",
  );
  assert.equal(header.toString("latin1", 257, 265), "ustar\x0000");
});

test("a long name is split at a slash if it can be, and goes into a pax header if not", () => {
  const split = encodeMember({ ...plain, name: toByteString(`${"d".repeat(60)}/${"f".repeat(60)}`) });
  assert.equal(split.length, 512);
  assert.equal(split.toString("latin1", 345, 405), "d".repeat(60));
  assert.equal(encodeMember({ ...plain, name: toByteString("f".repeat(101)) }).length, 1536);
  assert.equal(encodeMember({ ...plain, name: toByteString("ü") }).length, 1536);
});

test("what no header can hold is refused", () => {
  assert.throws(() => encodeMember({ ...plain, type: MemberType.Character, deviceMajor: 2 ** 21 }), /cannot encode/);
  const attributes = new Map([[toByteString("user.a"), Buffer.alloc(1024 * 1024)]]);
  assert.throws(() => encodeMember({ ...plain, attributes }), { message: "archive/tar: header field too long" });
});
