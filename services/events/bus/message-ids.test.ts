import assert from "node:assert/strict";
import test from "node:test";
import { MessageIds } from "./message-ids.ts";

test("the newest ids are known, older ones are forgotten, and a repeated one takes no place", () => {
  const ids = new MessageIds();
  for (let number = 0; number < 20_000; number++) {
    ids.add(`id${number}`);
    ids.add(`id${number}`);
  }
  assert.equal(ids.has(`id${20_000 - 16_384}`), true);
  assert.equal(ids.has(`id${20_000 - 16_384 - 1}`), false);
  assert.equal(ids.has("id19999"), true);
});
