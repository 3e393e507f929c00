import assert from "node:assert/strict";
import { appendFileSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import test from "node:test";
import { ErrorKind, isFailure } from "#base/errors.ts";

import { CallJournal } from "./call-journal.ts";

function temporaryDirectory(): { readonly path: string } & Disposable {
  const path = mkdtempSync(`${tmpdir()}/flotilla-journal-`);
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true }) };
}

const again = (id: string, repeatedAfterMs = 10): { id: string; repeatedAfterMs: number } => ({ id, repeatedAfterMs });

test("the next process knows how far calls came", () => {
  using directory = temporaryDirectory();
  const path = `${directory.path}/calls`;
  const first = CallJournal.open(path);
  for (const id of ["answered", "begun", "noted", "failed"]) {
    first.begin(id);
  }
  first.answered("answered", Buffer.from([0, 32, 10]));
  first.note("noted", { text: "with spaces\nand lines" });
  first.failed("failed");
  appendFileSync(path, "A begun half of a li");
  const next = CallJournal.open(path);
  next.begin("later");
  assert.deepEqual(next.recall(again("answered"))?.answer, Buffer.from([0, 32, 10]));
  assert.deepEqual(next.recall(again("noted")), { answer: undefined, note: { text: "with spaces\nand lines" } });
  assert.equal(next.recall(again("failed")), undefined);
  assert.equal(next.recall(again("never")), undefined);
  assert.deepEqual(next.recall(again("later")), { answer: undefined, note: undefined });
  first.close();
  next.close();
});

test("a long answer is not kept, and what was noted of its call is", () => {
  using directory = temporaryDirectory();
  const journal = CallJournal.open(`${directory.path}/calls`);
  journal.begin("long");
  journal.note("long", "begun");
  journal.answered("long", Buffer.alloc(1024 * 1024));
  assert.deepEqual(journal.recall(again("long")), { answer: undefined, note: "begun" });
  assert.ok(statSync(`${directory.path}/calls`).size < 1024);
  journal.close();
});

test("the journal stays small, keeps calls that are under way, and does not take forgotten ones for new", () => {
  using directory = temporaryDirectory();
  const path = `${directory.path}/calls`;
  const journal = CallJournal.open(path);
  journal.begin("long");
  journal.note("long", 1);
  const answer = Buffer.alloc(1000);
  for (let number = 0; number < 5_000; number += 1) {
    journal.begin(`c${number}`);
    journal.answered(`c${number}`, answer);
  }
  assert.ok(statSync(path).size + statSync(`${path}.1`).size < 2.2 * 1024 * 1024);
  assert.deepEqual(journal.recall(again("long")), { answer: undefined, note: 1 });
  assert.deepEqual(journal.recall(again("c4999"))?.answer, answer);
  assert.throws(
    () => journal.recall(again("c0", 60_000)),
    (error) => isFailure(error, ErrorKind.Unavailable),
  );
  journal.close();
});
