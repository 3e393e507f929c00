import assert from "node:assert/strict";
import test from "node:test";
import { Attachment } from "./attachment.ts";

const megabyte = 1024 * 1024;

test("a client that takes nothing holds the container up for some seconds and is then let go of", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const attachment = new Attachment({ write: () => new Promise(() => undefined), end: () => Promise.resolve() });
  await attachment.write(new Uint8Array(megabyte));
  let hasGoneOn = false;
  const write = attachment.write(new Uint8Array(1)).then(() => {
    hasGoneOn = true;
  });
  t.mock.timers.tick(9_000);
  await new Promise(setImmediate);
  assert.equal(hasGoneOn, false, "a client that is slow is waited for");
  t.mock.timers.tick(2_000);
  await write;
  await assert.rejects(attachment.ended, { message: "the client took no output for 10 s: context deadline exceeded" });
  await attachment.write(new Uint8Array(megabyte));
});

test("a client that is slow gets everything, and the container waits for it", async () => {
  let takenBytes = 0;
  let sentBytes = 0;
  const attachment = new Attachment({
    write: async (bytes) => {
      await new Promise(setImmediate);
      takenBytes += bytes.length;
    },
    end: () => Promise.resolve(),
  });
  for (let round = 0; round < 300; round += 1) {
    await attachment.write(new Uint8Array(64 * 1024));
    sentBytes += 64 * 1024;
    assert.ok(sentBytes - takenBytes <= megabyte + 64 * 1024);
  }
  attachment.end();
  await attachment.ended;
  assert.equal(takenBytes, sentBytes);
});
