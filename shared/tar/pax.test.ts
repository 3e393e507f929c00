import assert from "node:assert/strict";
import test from "node:test";
import * as fc from "fast-check";
import { attributesOf, parsePaxRecords } from "./pax.ts";
import { ContentMapCollector, checkFragments, findSparseFormat, parseRecordMap } from "./sparse-map.ts";

const parse = (text: string): Record<string, string> =>
  Object.fromEntries(parsePaxRecords(Buffer.from(text, "latin1")));

const invalid = { message: "archive/tar: invalid tar header" };

test("records are parsed, and the later one of a key counts", () => {
  assert.deepEqual(parse(""), {});
  assert.deepEqual(parse("6 a=b\n"), { a: "b" });
  assert.deepEqual(parse("5 a=\n"), { a: "" });
  assert.deepEqual(parse("6 a=b\n6 a=c\n9 path=x\n"), { a: "c", path: "x" });
  assert.deepEqual(parse("11 a=b=\n=\0\n"), { a: "b=\n=\0" });
});

test("what is not a sequence of records is refused", () => {
  for (const text of [
    "6 a=b",
    "7 a=b\n",
    "5 a=b\n",
    "6  a=b\n",
    "a=b\n",
    "-6 a=b\n",
    "0x6 a=b\n",
    "5 a b\n",
    "5 =b\n",
    "6 a=b\n6",
    "99999999999999999999 a=b\n",
    "9 pa\0h=x\n",
    "9 path=\0\n",
    "11 linkpath\n",
  ]) {
    assert.throws(() => parse(text), invalid, JSON.stringify(text));
  }
});

test("no bytes do more than be refused", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      try {
        parsePaxRecords(Buffer.from(bytes));
      } catch (error) {
        assert.equal((error as Error).message, invalid.message);
      }
    }),
  );
});

test("extended attributes are any bytes", () => {
  const records = parsePaxRecords(Buffer.from("26 SCHILY.xattr.user.a=\xff\0\n24 SCHILY.xattr.user.b=\n", "latin1"));
  assert.deepEqual(
    attributesOf(records),
    new Map([
      ["user.a", Buffer.from([255, 0])],
      ["user.b", Buffer.alloc(0)],
    ]),
  );
});

const records = (entries: Record<string, string>): ReturnType<typeof parsePaxRecords> =>
  parsePaxRecords(
    Buffer.from(
      Object.entries(entries)
        .map(([key, value]) => {
          const rest = ` ${key}=${value}\n`;
          const length = rest.length + String(rest.length + 2).length;
          return `${length}${rest}`;
        })
        .join(""),
    ),
  );

test("the sparse formats are told apart, and unknown ones are none", () => {
  assert.equal(findSparseFormat(records({})), undefined);
  assert.equal(findSparseFormat(records({ "GNU.sparse.major": "1", "GNU.sparse.minor": "0" })), "content");
  assert.equal(findSparseFormat(records({ "GNU.sparse.major": "0", "GNU.sparse.minor": "1" })), "records");
  assert.equal(findSparseFormat(records({ "GNU.sparse.map": "0,1" })), "records");
  assert.equal(findSparseFormat(records({ "GNU.sparse.major": "2", "GNU.sparse.minor": "0" })), undefined);
});

test("a sparse map among the records has as many numbers as it says", () => {
  assert.deepEqual(parseRecordMap(records({ "GNU.sparse.numblocks": "2", "GNU.sparse.map": "0,1,5,2" })), [
    { offset: 0, length: 1 },
    { offset: 5, length: 2 },
  ]);
  for (const [count, map] of [
    ["1", "0,1,5,2"],
    ["2", "0,1,5"],
    ["1", "x,1"],
    ["-1", "0"],
  ] as const) {
    assert.throws(
      () => parseRecordMap(records({ "GNU.sparse.numblocks": count, "GNU.sparse.map": map })),
      invalid,
      map,
    );
  }
});

test("a sparse map before the content is collected block by block", () => {
  const block = (text: string): Buffer => Buffer.concat([Buffer.from(text), Buffer.alloc(512)]).subarray(0, 512);
  assert.deepEqual(new ContentMapCollector().add(block("0\n")), []);
  assert.deepEqual(new ContentMapCollector().add(block("1\n10\n20\n")), [{ offset: 10, length: 20 }]);
  const collector = new ContentMapCollector();
  assert.equal(collector.add(block(`1\n${"0".repeat(510)}`)), undefined);
  assert.deepEqual(collector.add(block("7\n3\n")), [{ offset: 7, length: 3 }]);
  assert.throws(() => new ContentMapCollector().add(block("x\n")), invalid);
  assert.throws(() => new ContentMapCollector().add(block("-1\n")), invalid);
});

test("a sparse map may not grow without end", () => {
  const collector = new ContentMapCollector();
  const line = Buffer.alloc(512, "1");
  assert.throws(
    () => {
      for (let blocks = 0; blocks < 4000; blocks += 1) {
        collector.add(line);
      }
    },
    { message: "archive/tar: sparse map too long" },
  );
});

test("fragments are in order and within the file", () => {
  checkFragments([], 0);
  checkFragments(
    [
      { offset: 0, length: 5 },
      { offset: 5, length: 5 },
    ],
    10,
  );
  for (const [fragments, size] of [
    [[{ offset: 0, length: 11 }], 10],
    [[{ offset: -1, length: 1 }], 10],
    [[{ offset: 3, length: -1 }], 10],
    [
      [
        { offset: 5, length: 1 },
        { offset: 5, length: 1 },
      ],
      10,
    ],
    [[], -1],
    [[{ offset: 2 ** 62, length: 2 ** 62 }], 10],
  ] as const) {
    assert.throws(() => checkFragments(fragments, size), invalid);
  }
});
