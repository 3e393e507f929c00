import assert from "node:assert/strict";
import test from "node:test";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { IdTable } from "./id-table.ts";
import { NameTable } from "./name-table.ts";

test("an id may be cut short as long as it means one thing", () => {
  const table = new IdTable<{ readonly id: string }>();
  table.add({ id: "abc1" });
  table.add({ id: "abd2" });
  table.add({ id: "abc12" });
  assert.equal(table.get("abd").id, "abd2");
  assert.equal(table.get("abc1").id, "abc1");
  assert.throws(() => table.get("ab"), { message: 'multiple IDs found with provided prefix: "ab"' });
  for (const id of ["", "b", "abc123"]) {
    assert.throws(
      () => table.get(id),
      (error) => isFailure(error, ErrorKind.NotFound) && error.message === "not found",
    );
  }
  assert.throws(() => table.add({ id: "abd2" }), /already exists/);
  assert.equal(table.delete("abd"), false);
  assert.equal(table.delete("abd2"), true);
  assert.deepEqual(
    table.all().map(({ id }) => id),
    ["abc1", "abc12"],
  );
});

test("a name belongs to one id until it is given back", () => {
  const names = new NameTable();
  names.reserve("pod", "1");
  names.reserve("pod", "1");
  assert.throws(() => names.reserve("pod", "2"), { message: 'name "pod" is reserved for "1"' });
  assert.throws(() => names.reserve("other", "1"), { message: 'key "1" is reserved for "pod"' });
  names.release("1");
  names.release("1");
  names.reserve("pod", "2");
});
