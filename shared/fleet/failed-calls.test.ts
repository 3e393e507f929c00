import assert from "node:assert/strict";
import test from "node:test";
import { ErrorKind, failure, wrapFailure } from "#base/errors.ts";
import { failureOf } from "#wire/errors.ts";
import { levelOf } from "./failed-calls.ts";

function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: no luck`), { code });
}

test("a fault of the machine is an error, wherever it stands among the causes", () => {
  for (const code of ["EIO", "ENOSPC", "EROFS", "SQLITE_CORRUPT", "SQLITE_IOERR_FSYNC", "SQLITE_FULL"]) {
    const direct = systemError(code);
    const wrapped = wrapFailure(failure(ErrorKind.Unavailable, "blob", { cause: direct }), "commit");
    for (const thrown of [direct, wrapped]) {
      assert.equal(levelOf(failureOf(thrown)), "error", code);
    }
  }
});

test("a bug is an error", () => {
  assert.equal(levelOf(failureOf(new TypeError("x is not a function"))), "error");
  assert.equal(levelOf(failureOf(wrapFailure(new RangeError("out of bounds"), "read"))), "error");
});

test("what the client asked for wrongly is for those who look for it", () => {
  const gone = Object.assign(new TypeError("bad argument"), { code: "ERR_INVALID_ARG_VALUE" });
  for (const kind of [ErrorKind.NotFound, ErrorKind.AlreadyExists, ErrorKind.InvalidArgument, ErrorKind.Canceled]) {
    assert.equal(levelOf(failureOf(failure(kind, "x", { cause: systemError("ENOENT") }))), "debug", kind);
    assert.equal(levelOf(failureOf(failure(kind, "x", { cause: gone }))), "debug", kind);
  }
});

test("a failure without a class is seen, and one of the inside more so", () => {
  assert.equal(levelOf(failureOf(new Error("runc did not"))), "info");
  assert.equal(levelOf(failureOf(failure(ErrorKind.Internal, "x"))), "warn");
});

test("causes that go in a circle end", () => {
  const circle = new Error("a");
  circle.cause = circle;
  assert.equal(levelOf(failureOf(circle)), "info");
});
