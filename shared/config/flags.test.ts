import assert from "node:assert/strict";
import test from "node:test";
import * as fc from "fast-check";
import { parseArguments } from "./flag-syntax.ts";
import { formatDaemonFlags, parseDaemonFlags } from "./flags.ts";

test("flags are taken in every notation that Go takes", () => {
  const expected = { config: "/c.toml", logLevel: "debug", address: "/a.sock", root: "/r", state: "/s" };
  for (const argv of [
    ["--config", "/c.toml", "--log-level", "debug", "--address", "/a.sock", "--root", "/r", "--state", "/s"],
    ["-c", "/c.toml", "-l", "debug", "-a", "/a.sock", "-root", "/r", "-state=/s"],
    ["--c=/c.toml", "--l=debug", "--a=/a.sock", "--root=/r", "--state=/s"],
  ]) {
    assert.deepEqual(parseDaemonFlags(argv), expected);
  }
});

test("the last of two values wins, and an empty one counts as not given, but for the file", () => {
  assert.deepEqual(parseDaemonFlags(["--root", "/a", "--root", "/b"]), { root: "/b" });
  assert.deepEqual(parseDaemonFlags(["--root=", "--state", "", "--config="]), { config: "" });
});

test("a value may look like a flag", () => {
  assert.deepEqual(parseDaemonFlags(["--root", "--state"]), { root: "--state" });
  assert.deepEqual(parseDaemonFlags(["--root=a=b"]), { root: "a=b" });
  assert.deepEqual(parseDaemonFlags(["-root=-x", "-state", "-y"]), { root: "-x", state: "-y" });
  assert.deepEqual(parseDaemonFlags(["-root", "--"]), { root: "--" });
});

test("a bad command line is refused with Go's text", () => {
  for (const [argv, message] of [
    [["--bogus"], "flag provided but not defined: -bogus"],
    [["--config"], "flag needs an argument: -config"],
    [["-l"], "flag needs an argument: -l"],
    [["---root"], "bad flag syntax: ---root"],
    [["--=x"], "bad flag syntax: --=x"],
    [["extra"], 'unexpected argument "extra"'],
    [["--", "extra"], 'unexpected argument "extra"'],
    [["-"], 'unexpected argument "-"'],
  ] as const) {
    assert.throws(() => parseDaemonFlags(argv), { message });
  }
});

test("switches take a value only behind an equals sign", () => {
  const flags = [{ names: ["help", "h"], isSwitch: true }] as const;
  assert.deepEqual([...parseArguments(["-h"], flags).switches], ["help"]);
  assert.deepEqual([...parseArguments(["--help=true", "--help=F"], flags).switches], []);
  assert.deepEqual(parseArguments(["--help", "true"], flags).rest, ["true"]);
  assert.throws(() => parseArguments(["--help=maybe"], flags), /invalid boolean value "maybe" for -help/);
});

test("what follows the first argument that is no flag is left as it is", () => {
  const flags = [{ names: ["root"] }] as const;
  for (const [argv, rest] of [
    [
      ["--root", "/r", "run", "-x", "--root", "/y"],
      ["run", "-x", "--root", "/y"],
    ],
    [
      ["--", "-x", "--"],
      ["-x", "--"],
    ],
    [
      ["", "-x"],
      ["", "-x"],
    ],
    [
      ["-", "-x"],
      ["-", "-x"],
    ],
  ] as const) {
    assert.deepEqual(parseArguments(argv, flags).rest, rest);
  }
});

test("written flags are read back, with paths absolute", () => {
  const path = fc.stringMatching(/^\/[a-z=-]{1,10}$/);
  const flags = fc.record(
    { config: path, logLevel: fc.constantFrom("debug", "info"), address: path, root: path, state: path },
    { requiredKeys: [], noNullPrototype: true },
  );
  fc.assert(fc.property(flags, (given) => assert.deepEqual(parseDaemonFlags(formatDaemonFlags(given)), given)));
  assert.deepEqual(formatDaemonFlags({ root: "r" }), ["--root", `${process.cwd()}/r`]);
});
