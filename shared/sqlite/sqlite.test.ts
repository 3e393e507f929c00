import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { ErrorKind, failure, isFailure, systemErrorCode } from "#base/errors.ts";
import { lockFile } from "./lock.ts";
import { migrate } from "./migrate.ts";
import { type Database, openDatabase, openReader } from "./open.ts";
import { CommitQueue } from "./transaction.ts";

function temporaryPath(context: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "sqlite-test-"));
  context.after(() => rmSync(directory, { recursive: true, force: true }));
  return join(directory, "made", "meta.db");
}

function openTemporary(context: TestContext): Database {
  const database = openDatabase(temporaryPath(context));
  context.after(() => database.close());
  return database;
}

const isPrecondition = (text: RegExp) => (error: unknown) =>
  isFailure(error, ErrorKind.FailedPrecondition) && text.test(error.message);

test("a database is opened for durable commits", (context) => {
  const database = openTemporary(context);
  assert.equal(database.pragma("journal_mode", { simple: true }), "wal");
  assert.equal(database.pragma("synchronous", { simple: true }), 2);
});

test("a file that is something else is refused with a reason", (context) => {
  const path = temporaryPath(context);
  openDatabase(path).close();
  const bolt = Buffer.alloc(32_768);
  bolt.writeUInt32LE(0xed0cdaed, 16);
  writeFileSync(path, bolt);
  assert.throws(() => openDatabase(path), isPrecondition(/is a bolt database that containerd wrote/));
  writeFileSync(path, "some text that is longer than the header of a database".repeat(100));
  assert.throws(() => openDatabase(path), isPrecondition(/is no SQLite database/));
});

test("migrations run once, in order, and newer schemas are refused", (context) => {
  const database = openTemporary(context);
  migrate(database, ["CREATE TABLE a (x)"]);
  migrate(database, ["CREATE TABLE a (x)", "ALTER TABLE a ADD COLUMN y"]);
  database.exec("INSERT INTO a (x, y) VALUES (1, 2)");
  assert.throws(() => migrate(database, ["CREATE TABLE a (x)"]), isPrecondition(/has schema 2.*up to 1/));
  assert.throws(() => migrate(database, ["", "", "CREATE TABLE b (x); SELECT nonsense"]));
  assert.equal(database.pragma("user_version", { simple: true }), 2);
  assert.equal(database.prepare("SELECT count(*) FROM sqlite_schema WHERE name = 'b'").pluck().get(), 0);
});

test("a reader keeps its state while the writer goes on", (context) => {
  const database = openTemporary(context);
  database.exec("CREATE TABLE a (x)");
  const reader = openReader(database.name);
  context.after(() => reader.close());
  const count = reader.prepare<[], number>("SELECT count(*) FROM a").pluck();
  reader.exec("BEGIN");
  assert.equal(count.get(), 0);
  database.exec("INSERT INTO a VALUES (1)");
  assert.equal(count.get(), 0);
  reader.exec("COMMIT");
  assert.equal(count.get(), 1);
  assert.throws(() => reader.exec("INSERT INTO a VALUES (2)"));
});

test("changes that come together share a commit and fail alone", async (context) => {
  const database = openTemporary(context);
  database.exec("CREATE TABLE a (x INTEGER PRIMARY KEY)");
  let commits = 0;
  const queue = new CommitQueue(database, () => {
    commits += 1;
  });
  const insert = database.prepare<[number]>("INSERT INTO a VALUES (?)");
  const outcomes = await Promise.allSettled([
    queue.run(() => insert.run(1).changes),
    queue.run(() => {
      insert.run(2);
      throw new Error("no");
    }),
    queue.run(() => insert.run(1)),
    queue.run(() => insert.run(3).changes),
  ]);
  assert.deepEqual(
    outcomes.map(({ status }) => status),
    ["fulfilled", "rejected", "rejected", "fulfilled"],
  );
  assert.equal(commits, 1);
  assert.deepEqual(database.prepare("SELECT x FROM a").pluck().all(), [1, 3]);
});

test("changes in no hurry go along with others, or by themselves before long", async (context) => {
  const database = openTemporary(context);
  database.exec("CREATE TABLE a (x)");
  let commits = 0;
  const queue = new CommitQueue(database, () => {
    commits += 1;
  });
  const insert = database.prepare<[number]>("INSERT INTO a VALUES (?)");
  const rows = database.prepare("SELECT x FROM a").pluck();
  queue.runLazily(() => insert.run(1));
  queue.runLazily(() => {
    throw new Error("comes again");
  });
  await queue.run(() => insert.run(2));
  assert.deepEqual([rows.all(), commits], [[2, 1], 1]);
  queue.runLazily(() => insert.run(3));
  while (rows.all().length < 3) {
    await delay(5);
  }
  assert.equal(commits, 2);
});

test("a commit that fails refuses every change in it", async (context) => {
  const database = openTemporary(context);
  database.exec("CREATE TABLE a (x)");
  const queue = new CommitQueue(database);
  database.pragma(`max_page_count = ${Number(database.pragma("page_count", { simple: true })) + 1}`);
  const insert = database.prepare<[Buffer]>("INSERT INTO a VALUES (?)");
  const outcomes = await Promise.allSettled([
    queue.run(() => insert.run(Buffer.alloc(10))),
    queue.run(() => insert.run(Buffer.alloc(1_000_000))),
  ]);
  const kept = database.prepare("SELECT count(*) FROM a").pluck().get();
  assert.equal(outcomes.filter(({ status }) => status === "fulfilled").length, kept);
  const [, refused] = outcomes;
  assert.ok(refused?.status === "rejected" && isFailure(refused.reason, ErrorKind.ResourceExhausted));
  assert.equal(systemErrorCode(refused.reason.cause), "SQLITE_FULL");
});

test("a fault of the database is told from what a change throws by itself", async (context) => {
  const database = openTemporary(context);
  database.exec("CREATE TABLE a (x INTEGER PRIMARY KEY); INSERT INTO a VALUES (1)");
  const queue = new CommitQueue(database);
  const insert = database.prepare<[number]>("INSERT INTO a VALUES (?)");
  const own = failure(ErrorKind.NotFound, "x");
  const insertAgain = (): unknown => insert.run(1);
  const fail = (): never => {
    throw own;
  };
  const alone = [
    await Promise.allSettled([queue.run(insertAgain)]),
    await Promise.allSettled([queue.run(fail)]),
  ].flat();
  for (const outcomes of [alone, await Promise.allSettled([queue.run(insertAgain), queue.run(fail)])]) {
    const reasons = outcomes.map((outcome) => (outcome.status === "rejected" ? outcome.reason : undefined) as Error);
    assert.ok(isFailure(reasons[0], ErrorKind.Unknown));
    assert.match(systemErrorCode(reasons[0].cause) ?? "", /^SQLITE_CONSTRAINT/);
    assert.equal(reasons[1], own);
  }
  assert.equal(database.inTransaction, false);
  await queue.run(() => insert.run(2));
  assert.deepEqual(database.prepare("SELECT x FROM a").pluck().all(), [1, 2]);
});

test("a lock has one holder", async (context) => {
  const path = join(mkdtempSync(join(tmpdir(), "sqlite-test-")), "lock");
  context.after(() => rmSync(join(path, ".."), { recursive: true, force: true }));
  const held = await lockFile(path, 0);
  await assert.rejects(lockFile(path, 0), (error) => isFailure(error, ErrorKind.Unavailable));
  const waiting = lockFile(path, 10_000);
  held[Symbol.dispose]();
  (await waiting)[Symbol.dispose]();
});
