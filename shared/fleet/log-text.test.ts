import assert from "node:assert/strict";
import test from "node:test";
import { formatAsText } from "./log-text.ts";

test("an entry is written as containerd writes text", () => {
  const entry = {
    level: "warning",
    time: "2026-11-28T00:00:00.123000000Z",
    process: "tasks",
    container: "c 1",
    pid: 7,
    tags: ["a"],
    msg: 'has "quotes"',
    err: { type: "Error", message: "no such file", stack: "Error: no such file\n  at x" },
  };
  assert.equal(
    formatAsText(JSON.stringify(entry)),
    'time="2026-11-28T00:00:00.123000000Z" level=warning msg="has \\"quotes\\"" container="c 1" error="no such file" pid=7 process=tasks tags="[\\"a\\"]"\n',
  );
});

test("what a client makes the daemon log stays on its line", () => {
  const line = formatAsText(
    JSON.stringify({ level: "info", time: "t", msg: "refused\nlevel=error", id: "\u001b[31m" }),
  );
  assert.equal(line.split("\n").length, 2);
  assert.ok(!line.includes("\u001b"));
});

test("a grave error tells where it came from, any other only what", () => {
  const err = { message: "m", stack: "Error: m\n at x" };
  assert.match(formatAsText(JSON.stringify({ level: "fatal", msg: "x", err })), / stack="Error: m\\n at x"/);
  assert.doesNotMatch(formatAsText(JSON.stringify({ level: "info", msg: "x", err })), /stack/);
  assert.match(formatAsText(JSON.stringify({ level: "info", msg: "x", err: "text" })), / error=text\n/);
});
