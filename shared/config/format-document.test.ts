import assert from "node:assert/strict";
import test from "node:test";
import * as fc from "fast-check";
import { parse } from "smol-toml";
import { parseDocument } from "./document.ts";
import { formatDocument } from "./format-document.ts";

const text = fc.string({
  unit: fc.constantFrom("a", "'", '"', "\\", "\n", "\u0000", "\u007f", "\u00e9", "\u{1f6a2}", " ", "#", "="),
});
const scalar = fc.oneof(text, fc.integer(), fc.boolean(), fc.constantFrom(0.5, 1e21, -1e-9, 1.25e-120, -3.5e300));
const table = fc.letrec<{ table: Record<string, unknown>; value: unknown }>((tie) => ({
  table: fc.dictionary(text, tie("value"), { maxKeys: 4, noNullPrototype: true }),
  value: fc.oneof(
    { depthSize: "small" },
    scalar,
    fc.array(scalar, { maxLength: 3 }),
    fc.array(tie("table"), { maxLength: 2 }),
    fc.tuple(scalar, tie("table")),
    tie("table"),
  ),
})).table;

test("what is written is read back", () => {
  fc.assert(
    fc.property(fc.dictionary(text, table, { maxKeys: 3, noNullPrototype: true }), (plugins) => {
      const written = formatDocument({ version: 4, plugins });
      assert.deepEqual(plain(parse(written)), { version: 4, plugins });
    }),
  );
});

function plain(value: unknown): unknown {
  return structuredClone(value);
}

test("the layout is the one of containerd", () => {
  const document = parseDocument(
    `version = 4
root = "/r"
[plugins."b.x"]
[plugins."b.x".inner]
key = "it's"
[plugins."a.x"]
list = ["a", "b"]
[[plugins."a.x".each]]
n = 1
[debug]
level = "info"
`,
    "config.toml",
    assert.fail,
  );
  assert.equal(
    formatDocument(document),
    `version = 4
root = '/r'

[debug]
  level = 'info'

[plugins]
  [plugins.'a.x']
    list = ['a', 'b']

    [[plugins.'a.x'.each]]
      n = 1

  [plugins.'b.x']
    [plugins.'b.x'.inner]
      key = "it's"
`,
  );
});

test("a section of proxy plugins without plugins is left out, as containerd leaves it out", () => {
  assert.equal(formatDocument({ version: 4, proxy_plugins: {}, timeouts: {} }), "version = 4\n\n[timeouts]\n");
});
