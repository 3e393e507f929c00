import assert from "node:assert/strict";
import test from "node:test";
import * as fc from "fast-check";
import { compileRegexp } from "./regexp.ts";

function matches(source: string, text: string): boolean | undefined {
  return compileRegexp(source)?.(text);
}

test("RE2's own syntax is understood", () => {
  const cases: [source: string, text: string, expected: boolean][] = [
    ["", "anything", true],
    ["^/tasks/", "/tasks/exit", true],
    ["^/tasks/", "/containers/tasks/", false],
    ["b$", "ab\n", false],
    ["(?m)b$", "ab\nc", true],
    ["(?m)^c", "ab\nc", true],
    ["^c", "ab\nc", false],
    ["\\Ab", "ab", false],
    ["a\\z", "ba", true],
    ["a.c", "a\nc", false],
    ["(?s)a.c", "a\nc", true],
    ["(?s:a.)c.", "a\nc\n", false],
    ["(?i)KELVIN", "\u212aelvin", true],
    ["a(?i)b|c", "C", true],
    ["a(?i:b)c", "aBC", false],
    ["(?i-i)a", "A", false],
    ["(?P<name>a)(?<other>b)", "ab", true],
    ["\\Qa.b*\\E+", "a.b**", true],
    ["\\Qa.b", "acb", false],
    ["[[:alpha:]-]+1", "a-b1", true],
    ["^[[:^digit:]]+$", "a1", false],
    ["^[^\\d\\s]+$", "a b", false],
    ["^[]a]+$", "]a", true],
    ["^\\pL\\p{Greek}\\P{Lu}$", "aλa", true],
    ["^\\p{^Greek}$", "λ", false],
    ["\\x41\\x{1F600}\\101", "A😀A", true],
    ["^😀{2}$", "😀😀", true],
    ["a{,2}", "a{,2}", true],
    ["^a{2,3}$", "aaaa", false],
    ["^(?:ab){2,}$", "ababab", true],
    ["\\bfoo\\b", "a foo b", true],
    ["\\Bfoo", "a foo b", false],
    ["^(a|)*b??$", "aa", true],
    ["(?:a|[^a])$", "😀", true],
    ["^[^a]$", "😀", true],
    ["(?:(?:){1000})".repeat(500), "a", true],
  ];
  for (const [source, text, expected] of cases) {
    assert.equal(matches(source, text), expected, `/${source}/ on ${JSON.stringify(text)}`);
  }
});

test("what RE2 refuses does not compile", () => {
  const refused = [
    "(",
    ")",
    "a)",
    "[",
    "[a",
    "*",
    "a**",
    "a+{2}",
    "|*",
    "\\",
    "\\1",
    "\\Z",
    "\\C",
    "\\y",
    "(?=a)",
    "(?!a)",
  ];
  refused.push(
    "(?<=a)",
    "(?P<a",
    "(?P<a>x)(?P<a>y)",
    "(?P=a)",
    "(?i",
    "(?i-)",
    "[z-a]",
    "[[:no:]]",
    "[[:constructor:]]",
    "[[:__proto__:]]",
    "\\p{constructor}",
    "\\p{No such}",
    "\\p",
  );
  refused.push("a{1001}", "a{3,2}", "(a{100}){11}", "\\x{110000}", "\\x4", "(".repeat(1001) + ")".repeat(1001));
  for (const source of refused) {
    assert.equal(compileRegexp(source), undefined, source);
  }
});

test("an expression that is too large does not compile", () => {
  assert.equal(compileRegexp("a".repeat(20_000)), undefined);
  assert.equal(compileRegexp("a{1000}".repeat(11)), undefined);
});

test("expressions on which backtracking never ends are answered", () => {
  const text = "a".repeat(20_000);
  for (const source of ["^(a+)+$", "^(a|a)*$", "^(a|aa)+$", "^(a*)*$", "^(.*a){12}$"]) {
    assert.equal(matches(source, `${text}b`), false, source);
    assert.equal(matches(source, text), true, source);
  }
});

/** Sources that mean the same to RE2 and to JavaScript. */
const commonSource = fc.letrec<{ source: string }>((tie) => ({
  source: fc.oneof(
    { maxDepth: 5, withCrossShrink: true },
    fc.constantFrom("a", "b", "é", ".", "[ab]", "[^a]", "\\d", "\\W", "^", "$", "\\b", ""),
    fc.array(tie("source"), { maxLength: 3 }).map((parts) => parts.join("")),
    fc.tuple(tie("source"), tie("source")).map(([left, right]) => `(?:${left}|${right})`),
    fc
      .tuple(tie("source"), fc.constantFrom("*", "+", "?", "{0}", "{2}", "{1,2}", "{2,}", "*?"))
      .map(([part, operator]) => `(?:${part})${operator}`),
  ),
})).source;

test("agrees with JavaScript's engine where the two languages are the same", () => {
  const text = fc.string({ unit: fc.constantFrom("a", "b", "é", "1", " ", "\n", "😀"), maxLength: 8 });
  fc.assert(
    fc.property(commonSource, text, (source, subject) => {
      // V8 gets `(?:a|[^a])$` on a pair of surrogates wrong. No source tells an emoji from a euro sign, which is one unit.
      const asUnits = subject.replaceAll("😀", "€");
      assert.equal(matches(source, subject), new RegExp(source).test(asUnits));
    }),
    { numRuns: 2_000 },
  );
});
