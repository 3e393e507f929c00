import assert from "node:assert/strict";
import test from "node:test";
import { readSources } from "./sources.ts";

/** What may not stand in a source file, and what to write instead. */
const bans: readonly { readonly pattern: RegExp; readonly instead: string; readonly except?: RegExp }[] = [
  { pattern: /\b(?:TODO|FIXME|XXX|HACK)\b/, instead: "do it, or leave it out", except: /^test\/tidy\// },
  { pattern: /\bconsole\.\w+\(/, instead: "the log of the process, or process.stdout", except: /^test\/tidy\// },
  { pattern: /^\s*(?:export )?(?:const )?enum /m, instead: "an `as const` object" },
  { pattern: /\bas any\b|: any\b/, instead: "unknown, or the type", except: /^test\/tidy\// },
  { pattern: /@ts-(?:ignore|expect-error|nocheck)/, instead: "types that fit", except: /^test\/tidy\// },
  { pattern: /\.only\(/, instead: "test(", except: /^test\/tidy\// },
];

test("source files keep the house rules", () => {
  const violations: string[] = [];
  for (const { path, text } of readSources()) {
    for (const { pattern, instead, except } of bans) {
      if (pattern.test(text) && except?.test(path) !== true) {
        violations.push(`${path}: has ${pattern}; write ${instead}`);
      }
    }
  }
  assert.deepEqual(violations, []);
});

test("files are named by kebab-case nouns that say what is in them", () => {
  const misnamed = readSources()
    .map(({ path }) => path)
    .filter((path) => {
      const name = path.split("/").at(-1) ?? "";
      return (
        !/^[a-z0-9]+(?:-[a-z0-9]+)*(?:\.(?:test|suite|bench))?\.ts$/.test(name) ||
        /\b(?:utils?|helpers?|common|misc)\b/.test(path)
      );
    });
  assert.deepEqual(misnamed, []);
});
