import assert from "node:assert/strict";
import { appendFile, mkdtemp, readdir, rm, truncate } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { ErrorKind } from "#base/errors.ts";
import { type Record, RecordSchema } from "#gen/flotilla/events/v1/log_pb.ts";
import { Spool } from "./spool.ts";

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "flotilla-spool-"));
});

afterEach(async () => {
  await rm(directory, { recursive: true });
});

function recordOf(messageId: string, sizeBytes = 10): Record {
  const event = { typeUrl: "t", value: Buffer.alloc(sizeBytes, 1) };
  return create(RecordSchema, { messageId, envelope: { namespace: "n", topic: "/t", event } });
}

function names(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${prefix}${index}`);
}

async function drain(spool: Spool): Promise<string[]> {
  const ids: string[] = [];
  for (let segment = await spool.oldest(); segment !== undefined; segment = await spool.oldest()) {
    ids.push(...segment.records.map(({ messageId }) => messageId));
    await spool.remove(segment);
  }
  return ids;
}

test("what was added comes out once, in order, also after the spool was opened again", async () => {
  const added = names("e", 700);
  {
    await using spool = await Spool.open(directory);
    assert.equal(spool.isEmpty, true);
    await Promise.all(added.slice(0, 300).map((id) => spool.add(recordOf(id))));
    for (const id of added.slice(300, 320)) {
      await spool.add(recordOf(id));
    }
    await Promise.all(added.slice(320).map((id) => spool.add(recordOf(id))));
  }
  await using again = await Spool.open(directory);
  assert.equal(again.isEmpty, false);
  await again.add(recordOf("last"));
  assert.deepEqual(await drain(again), [...added, "last"]);
  assert.equal(again.isEmpty, true);
  assert.deepEqual(await readdir(directory), []);
});

test("what is added while the oldest is read comes behind it", async () => {
  await using spool = await Spool.open(directory);
  await spool.add(recordOf("a"));
  const segment = await spool.oldest();
  await spool.add(recordOf("b"));
  assert.deepEqual(
    segment?.records.map(({ messageId }) => messageId),
    ["a"],
  );
  assert.deepEqual(await drain(spool), ["a", "b"]);
});

test("a torn end is left out, whatever it is, and what comes later is kept", async () => {
  for (const damage of ["cut", "longer", "changed"]) {
    {
      await using spool = await Spool.open(directory);
      await spool.add(recordOf("whole"));
      await spool.add(recordOf("torn"));
    }
    const [name] = await readdir(directory);
    const path = join(directory, name ?? "");
    if (damage === "cut") {
      await truncate(path, 70);
    } else {
      await appendFile(path, damage === "longer" ? Buffer.from([0, 0]) : Buffer.from([0, 0, 0, 1, 0, 0, 0, 0, 7]));
    }
    await using spool = await Spool.open(directory);
    await spool.add(recordOf("later"));
    const segment = await spool.oldest();
    assert.ok((segment?.tornBytes ?? 0) > 0, damage);
    const kept = damage === "cut" ? ["whole", "later"] : ["whole", "torn", "later"];
    assert.deepEqual(await drain(spool), kept, damage);
  }
});

test("a full spool refuses, and takes again when it has been emptied", async () => {
  await using spool = await Spool.open(directory);
  const large = 4 * 1024 * 1024 - 100;
  for (const id of names("e", 16)) {
    await spool.add(recordOf(id, large));
  }
  await assert.rejects(spool.add(recordOf("more", large)), {
    kind: ErrorKind.Unavailable,
    message: /^\d+ bytes of events wait on disk already: unavailable$/,
  });
  assert.equal((await drain(spool)).length, 16);
  await spool.add(recordOf("more", large));
  assert.deepEqual(await drain(spool), ["more"]);
});

test("who adds is told when the disk does not take it", async () => {
  await using spool = await Spool.open(directory);
  await rm(directory, { recursive: true });
  await assert.rejects(spool.add(recordOf("lost")), {
    kind: ErrorKind.Unavailable,
    message: "events can't be kept on disk: unavailable",
  });
  assert.equal(spool.isEmpty, true);
  await Spool.open(directory);
  await spool.add(recordOf("kept"));
  assert.deepEqual(await drain(spool), ["kept"]);
});
