import assert from "node:assert/strict";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import test from "node:test";
import { gzipSync } from "node:zlib";
import { decompress } from "./compression.ts";
import { findGzipProgram } from "./gzip-program.ts";

const never = new AbortController().signal;

async function textOf(pieces: AsyncIterable<Buffer>): Promise<string> {
  const all: Buffer[] = [];
  for await (const piece of pieces) {
    all.push(piece);
  }
  return Buffer.concat(all).toString();
}

async function* bytes(data: Buffer): AsyncGenerator<Buffer> {
  yield data.subarray(0, 5);
  yield data.subarray(5);
}

test("igzip is taken where it is and may be used, and its failure is that of the layer", async (context) => {
  const path = mkdtempSync(`${tmpdir()}/flotilla-gzip-`);
  context.after(() => rmSync(path, { recursive: true }));
  mkdirSync(`${path}/bin`);
  const program = `${path}/bin/igzip`;
  // Marks what it has decompressed, and fails as igzip does.
  writeFileSync(
    program,
    '#!/bin/sh\n[ "$*" = "-d -c" ] || exit 9\nprintf "by igzip: "\ngzip -dc || { echo "igzip: bad" >&2; exit 1; }\n',
  );
  const environment = { PATH: `relative:/nowhere:${path}/bin` };
  assert.equal(findGzipProgram(environment), undefined, "it has to be executable");
  chmodSync(program, 0o755);
  assert.equal(findGzipProgram(environment), program);
  assert.equal(findGzipProgram({ ...environment, CONTAINERD_DISABLE_IGZIP: "1" }), undefined);
  assert.equal(findGzipProgram({}), undefined);
  const archive = gzipSync("layer");
  assert.equal(await textOf(decompress(bytes(archive), { program, signal: never })), "by igzip: layer");
  assert.equal(await textOf(decompress(bytes(archive), { program: undefined, signal: never })), "layer");
  assert.equal(await textOf(decompress(bytes(Buffer.from("plain bytes")), { program, signal: never })), "plain bytes");
  await assert.rejects(textOf(decompress(bytes(archive.subarray(0, -9)), { program, signal: never })), {
    message: /igzip: bad/,
  });
});
