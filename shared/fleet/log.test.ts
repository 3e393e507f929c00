import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import test from "node:test";

/** What a process prints on standard error that does this with a log. */
function printedBy(code: string, format = "json", level = "info"): string {
  const source = `import { openLog, setLogLevel } from ${JSON.stringify(new URL("log.ts", import.meta.url).href)};
    const log = openLog("tasks", { level: "${level}", format: "${format}" }, () => ({ trace_id: "t" }));
    ${code}`;
  const { status, stderr } = spawnSync(process.execPath, ["--input-type=module", "--eval", source], {
    encoding: "utf8",
  });
  assert.equal(status, 0, stderr);
  return stderr;
}

test("an entry is a line of JSON with its level, its fields and its message", () => {
  const { time, ...entry } = JSON.parse(
    printedBy('log.warn({ bytes: 7n, gone: undefined, err: new Error("no") }, "it failed")'),
  );
  assert.match(time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}000000Z$/);
  assert.match(entry.err.stack, /^Error: no\n/);
  entry.err.stack = "";
  assert.deepEqual(entry, {
    level: "warning",
    process: "tasks",
    trace_id: "t",
    bytes: 7,
    err: { type: "Error", message: "no", stack: "" },
    msg: "it failed",
  });
});

test("what is less grave than the level is not told, and the level changes at once", () => {
  const printed = printedBy(
    `log.debug("a"); log.info("b"); setLogLevel(log, "debug"); log.debug("c"); setLogLevel(log, "panic"); log.error("d"); log.fatal("e");`,
  );
  assert.deepEqual(
    printed
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line).msg),
    ["b", "c", "e"],
  );
});

test("entries are text where that is wanted", () => {
  assert.match(
    printedBy(`log.info({ pid: 7 }, "has a blank")`, "text"),
    /^time="[^"]+" level=info msg="has a blank" pid=7 process=tasks trace_id=t\n$/,
  );
});

test("a pipe that is full loses no line", () => {
  // The shell reads late and slowly; a pipe holds 64 KiB.
  const source = `import { openLog } from ${JSON.stringify(new URL("log.ts", import.meta.url).href)};
    const log = openLog("x", { level: "info", format: "json" });
    for (let n = 0; n < 2000; n++) log.info({ n, pad: "p".repeat(200) }, "line");`;
  const { stdout } = spawnSync(
    "sh",
    ["-c", '"$0" --input-type=module --eval "$1" 2>&1 >/dev/null | (sleep 0.3; wc -l)', process.execPath, source],
    { encoding: "utf8" },
  );
  assert.equal(Number(stdout), 2000);
});
