import assert from "node:assert/strict";
import test from "node:test";
import * as fc from "fast-check";
import { renderTemplate, type TemplateFunctions } from "./hook-template.ts";

const functions: TemplateFunctions = new Map([
  ["id", { parameters: 0, call: () => "c1" }],
  ["pid", { parameters: 0, call: () => "42" }],
  ["annotation", { parameters: 1, call: (key = "") => `<${key}>` }],
] as const);

test("actions are replaced by the values of their functions", () => {
  for (const [source, rendered] of [
    ["", ""],
    ["plain } text {", "plain } text {"],
    ["{{id}}", "c1"],
    ["a-{{ id }}-b-{{pid}}", "a-c1-b-42"],
    ['{{annotation "a.b/c"}}', "<a.b/c>"],
    ['{{annotation `raw "text"`}}', '<raw "text">'],
    ['{{annotation "quo\\"ted"}}', '<quo"ted>'],
    ["{{annotation id}}", "<c1>"],
    ["{{annotation (annotation id)}}", "<<c1>>"],
    ["{{id | annotation}}", "<c1>"],
    ['{{"x" | annotation | annotation}}', "<<x>>"],
    ['{{"text"}}', "text"],
    ["a {{- id -}} \n b", "ac1b"],
    ["a {{id -}} {{- id}} b", "a c1c1 b"],
    ["{{/* a comment */}}x", "x"],
    ["a {{- /* trimmed */ -}} b", "ab"],
  ] as const) {
    assert.equal(renderTemplate(source, functions), rendered, source);
  }
});

test("what is unknown, unfinished or refused is told with its line", () => {
  for (const [source, message] of [
    ["{{bogus}}", 'template: oci-hook:1: function "bogus" not defined'],
    ["x\n{{if id}}y{{end}}", 'template: oci-hook:2: function "if" not defined'],
    ["{{id", "template: oci-hook:1: unclosed action"],
    ["{{", "template: oci-hook:1: unclosed action"],
    ["{{}}", "template: oci-hook:1: missing value for command"],
    ["{{ | id}}", 'template: oci-hook:1: unexpected "|" in command'],
    ["{{id 'x'}}", 'template: oci-hook:1: unexpected "\'" in command'],
    ['{{id "x"}}', "template: oci-hook:1: wrong number of args for id: want 0 got 1"],
    ["{{annotation}}", "template: oci-hook:1: wrong number of args for annotation: want 1 got 0"],
    ["{{annotation annotation}}", "template: oci-hook:1: wrong number of args for annotation: want 1 got 0"],
    ["{{annotation (id}}", "template: oci-hook:1: unclosed left paren"],
    ['{{id | "x"}}', "template: oci-hook:1: can't give argument to non-function"],
    ["{{.}}", 'template: oci-hook:1: unexpected "." in command'],
    ["{{/* open", "template: oci-hook:1: unclosed comment"],
    ["{{/* c */ id}}", "template: oci-hook:1: comment ends before closing delimiter"],
  ] as const) {
    assert.throws(() => renderTemplate(source, functions), { message }, source);
  }
});

test("any text ends in a value or an error, and one without actions stays as it is", () => {
  const pieces = fc.constantFrom("{{", "}}", "id", " ", "-", "|", "(", ")", '"', "`", "/*", "*/", "\n", "a");
  fc.assert(
    fc.property(fc.array(pieces, { maxLength: 16 }), (parts) => {
      const source = parts.join("");
      try {
        const rendered = renderTemplate(source, functions);
        assert.ok(source.includes("{{") || rendered === source);
      } catch (error) {
        assert.match(String(error), /^Error: template: oci-hook:\d+: /);
      }
    }),
  );
});
