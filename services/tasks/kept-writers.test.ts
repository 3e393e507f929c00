import assert from "node:assert/strict";
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import test from "node:test";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { makeFifo } from "#linux/fifo.ts";
import { keepWriters } from "./kept-writers.ts";

test("who reads sees no end while the pipe is kept, and a pipe that nobody reads is refused", () => {
  const directory = mkdtempSync(`${tmpdir()}/flotilla-writers-`);
  const pipe = `${directory}/pipe`;
  makeFifo(pipe, 0o700);
  writeFileSync(`${directory}/file`, "");
  assert.throws(
    () => keepWriters(pipe),
    (error) => isFailure(error, ErrorKind.Unavailable),
  );
  const reader = openSync(pipe, constants.O_RDONLY | constants.O_NONBLOCK);
  const read = (): number => readSync(reader, Buffer.alloc(1));
  const kept = keepWriters(pipe, pipe, `${directory}/file`, "", "file:///x", `${directory}/absent`);
  assert.throws(read, { code: "EAGAIN" });
  kept[Symbol.dispose]();
  assert.equal(read(), 0);
  closeSync(reader);
  rmSync(directory, { recursive: true });
});
