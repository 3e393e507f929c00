import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import test, { type TestContext } from "node:test";
import { AuditLog, type AuditRecord } from "./audit-log.ts";

const record: AuditRecord = {
  time: "2026-01-31T12:00:00.000Z",
  who: { uid: 1 },
  namespace: "default",
  method: "containerd.services.images.v1.Images/Create",
  object: { "image.name": "docker.io/library/busybox:latest" },
  rule: undefined,
  outcome: "ok",
  durMs: 1,
};

function makeDirectory(context: TestContext): string {
  const directory = mkdtempSync(`${tmpdir()}/flotilla-audit-`);
  context.after(() => {
    chmodSync(directory, 0o700);
    rmSync(directory, { recursive: true });
  });
  return directory;
}

const linesOf = (path: string): unknown[] =>
  readFileSync(path, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as unknown);

test("records are appended for root alone, and a full file is put aside", (context) => {
  const path = `${makeDirectory(context)}/audit.log`;
  const failures: unknown[] = [];
  const options = { path, bytesMax: 500, onFailure: (error: unknown) => failures.push(error) };
  {
    using log = new AuditLog(options);
    log.write(record);
  }
  using log = new AuditLog(options);
  log.write({ ...record, durMs: 2 });
  assert.equal(linesOf(path).length, 2);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  log.write({ ...record, durMs: 3 });
  assert.deepEqual(linesOf(path), [{ ...JSON.parse(JSON.stringify(record)), durMs: 3 }]);
  assert.equal(linesOf(`${path}.1`).length, 2);
  assert.deepEqual(failures, []);
});

test("a link in the place of the file is not followed", (context) => {
  const directory = makeDirectory(context);
  symlinkSync("/dev/null", `${directory}/audit.log`);
  assert.throws(
    () => new AuditLog({ path: `${directory}/audit.log`, bytesMax: 400, onFailure: () => undefined }),
    /ELOOP/,
  );
});
