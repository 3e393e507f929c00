import assert from "node:assert/strict";
import test from "node:test";
import * as fc from "fast-check";
import { isFailure } from "#base/errors.ts";
import { compileFilters, type FieldSource } from "./filter.ts";

/** An object as maps of joined paths; what is not in it is absent. */
function fieldsOf(object: Readonly<Record<string, string>>): FieldSource {
  return (path) => (Object.hasOwn(object, path.join(".")) ? object[path.join(".")] : undefined);
}

function passes(filter: string | readonly string[], object: Readonly<Record<string, string>>): boolean {
  return compileFilters(typeof filter === "string" ? [filter] : filter)(fieldsOf(object));
}

test("selectors match as containerd's do", () => {
  const object = {
    name: "foo",
    "labels.foo": "omg_asdf.asdf-qwer",
    'labels.with \\ and ".post': "present",
    comma: "a, b",
  };
  const cases: [filter: string, expected: boolean][] = [
    ["", true],
    ["name", true],
    ["absent", false],
    ["name==foo", true],
    ["name==fo", false],
    ["name != foo", false],
    ["absent!=foo", true],
    ['absent!=""', false],
    ['absent==""', false],
    ['absent~=""', true],
    ["absent~=^$", true],
    ["labels.foo==omg_asdf.asdf-qwer", true],
    ['labels."foo"==omg_asdf.asdf-qwer', true],
    ['labels."with \\\\ and \\"".post==present', true],
    ['comma=="a, b"', true],
    ['name=="\\146\\x6f\\u006f"', true],
    ["name~=/^f[o]{1,2}$/,labels.foo", true],
    ["name~=|^f|, labels.foo", true],
    ["name~=(", false],
    ['name~="\\xff"', false],
    ['name!="\\xff"', true],
    ["name==foo,absent", false],
  ];
  for (const [filter, expected] of cases) {
    assert.equal(passes(filter, object), expected, filter);
  }
});

test("one of several filters suffices, and none at all passes everything", () => {
  assert.equal(passes([], {}), true);
  assert.equal(passes(["a==1", "b==2"], { b: "2" }), true);
  assert.equal(passes(["a==1", "b==2"], { b: "3" }), false);
  assert.equal(passes(["a==1", ""], {}), true);
});

test("a malformed filter is refused with containerd's text", () => {
  const cases: [filter: string, message: string][] = [
    ["labels.|foo|==v", "[labels. >|||< foo|==v]: invalid quote encountered"],
    ["name==foo,", "[name==foo,]: expected field or quoted"],
    ["labels.", "[labels.]: expected field or quoted"],
    ["image~=,id?=?fbaq", "[image~= >|,|< id?=?fbaq]: expected value or quoted"],
    ["labels.ns/key==value", "[labels.ns >|/|< key==value]: quoted literal not terminated"],
    ["labels.key==/value", "[labels.key== >|/|< value]: quoted literal not terminated"],
    ['labels.?"x".post==present', '[labels. >|?|< "x".post==present]: expected field or quoted'],
    ["name==foo bar", "[name==foo >| |< bar]: unexpected input:  "],
    ["name=foo", '[name >|=|< foo]: unsupported operator "="'],
    ["name foo", '[name  >|f|< oo]: expected an operator ("=="|"!="|"~=")'],
    ["name==|foo|", "[name== >|||< foo|]: invalid quote encountered"],
    ['name=="\\q"', '[name== >|"|< \\q"]: illegal escape sequence'],
    ['name=="\\400"', '[name== >|"|< \\400"]: unquoting failed: quote syntax error'],
    ["name==\0", "[name== >|\0|< ]: unexpected null"],
  ];
  for (const [filter, message] of cases) {
    assert.throws(
      () => compileFilters(["", filter]),
      (error) =>
        isFailure(error, "invalid argument") && error.message === `filters: parse error: ${message}: invalid argument`,
      filter,
    );
  }
});

interface ModelSelector {
  readonly path: readonly string[];
  readonly operator: "" | "==" | "!=" | "~=";
  readonly value: string;
}

const part = fc.oneof(fc.constantFrom("name", "labels", "id", "a_1"), fc.string({ unit: "grapheme", maxLength: 6 }));
const modelSelector: fc.Arbitrary<ModelSelector> = fc.record({
  path: fc.array(part, { minLength: 1, maxLength: 3 }),
  operator: fc.constantFrom("", "==", "!=", "~="),
  value: fc.oneof(fc.constantFrom("x", "y", ""), fc.string({ unit: "grapheme", maxLength: 6 })),
});

/** Everything but plain words in quotes, with the characters that need it escaped. */
function print({ path, operator, value }: ModelSelector): string {
  const literal = operator === "~=" ? `\\Q${value.replaceAll("\\E", "")}\\E` : value;
  return path.map(printWord).join(".") + operator + (operator === "" ? "" : printWord(literal));
}

function printWord(word: string): string {
  return /^\w+$/.test(word)
    ? word
    : `"${word.replace(/["\\\p{C}\ufffd]/gu, (character) =>
        Array.from(Buffer.from(character), (byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join(""),
      )}"`;
}

function holds({ path, operator, value }: ModelSelector, object: Readonly<Record<string, string>>): boolean {
  const found = fieldsOf(object)(path);
  switch (operator) {
    case "==":
      return found === value;
    case "!=":
      return (found ?? "") !== value;
    case "~=":
      return (found ?? "").includes(value.replaceAll("\\E", ""));
    default:
      return found !== undefined;
  }
}

test("any filter means what its selectors mean", () => {
  const filters = fc.array(fc.array(modelSelector, { minLength: 1, maxLength: 3 }), { maxLength: 3 });
  fc.assert(
    fc.property(filters, fc.array(fc.boolean()), (model, coins) => {
      const selectors = model.flat();
      const kept = selectors.filter((_, index) => coins[index] === true);
      const object = Object.fromEntries(kept.map(({ path, value }) => [path.join("."), value]));
      const printed = model.map((all) => all.map(print).join(", "));
      const expected = model.length === 0 || model.some((all) => all.every((selector) => holds(selector, object)));
      assert.equal(passes(printed, object), expected, JSON.stringify(printed));
    }),
    { numRuns: 1_000 },
  );
});

test("any text either compiles or is refused as an invalid argument", () => {
  const text = fc.string({ unit: fc.constantFrom(...Array.from('ab.=!~,"/|\\x0 \t\n\u00e9\ufffd\0')), maxLength: 12 });
  fc.assert(
    fc.property(text, (filter) => {
      try {
        compileFilters([filter])(() => undefined);
      } catch (error) {
        assert.ok(isFailure(error, "invalid argument"), String(error));
        assert.match(error.message, /^filters: parse error: \[.*\]: .+: invalid argument$/s);
      }
    }),
    { numRuns: 2_000 },
  );
});
