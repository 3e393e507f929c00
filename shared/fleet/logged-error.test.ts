import assert from "node:assert/strict";
import test from "node:test";
import { showError } from "./logged-error.ts";

test("an error is shown with its causes and its plain details", () => {
  const cause = new RangeError("no room");
  const error = Object.assign(new Error("not written", { cause }), {
    code: "ENOSPC",
    socket: { huge: true },
    sizeBytes: 7n,
  });
  const { stack, ...shown } = showError(error) as Record<string, unknown>;
  assert.deepEqual(shown, { type: "Error", message: "not written: no room", code: "ENOSPC", sizeBytes: 7n });
  assert.match(String(stack), /^Error: not written\n[^]*\ncaused by: RangeError: no room\n/);
});

test("errors that were collected are told of, and what is no error stays what it is", () => {
  const { aggregateErrors } = showError(new AggregateError([new TypeError("a"), "b"], "all failed")) as Record<
    string,
    unknown
  >;
  assert.deepEqual(aggregateErrors, [{ type: "TypeError", message: "a" }, "b"]);
  assert.equal(showError("text"), "text");
  assert.equal(showError(null), null);
});

test("an error that is its own cause comes to an end", () => {
  const error = new Error("round");
  error.cause = error;
  const { message } = showError(error) as { message: string };
  assert.ok(message.startsWith("round: round") && message.length < 1_000);
});
