import assert from "node:assert/strict";
import test from "node:test";
import { fillTemplate } from "./go-template.ts";

const data = {
  PodCIDR: "10.1.0.0/24",
  PodCIDRRanges: ["10.1.0.0/24", "fd00::/64"],
  Routes: ["0.0.0.0/0", "::/0"],
};

test("a template of a configuration is filled in as Go does", () => {
  const template = `{
  "subnet": "{{.PodCIDR}}",
  "ranges": [{{range $i, $range := .PodCIDRRanges}}{{if $i}}, {{end}}[{"subnet": "{{$range}}"}]{{end}}],
  "routes": [{{- range $index, $route := $.Routes -}}
    {{if $index}},{{else}} {{end}}{"dst": "{{$route}}"}
  {{- end}} ]{{/* the end */}}
}
`;
  assert.equal(
    fillTemplate(template, data),
    `{
  "subnet": "10.1.0.0/24",
  "ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64"}]],
  "routes": [ {"dst": "0.0.0.0/0"},{"dst": "::/0"} ]
}
`,
  );
  assert.equal(fillTemplate("{{range .Routes}}<{{.}}>{{else}}none{{end}}", { Routes: [] }), "none");
  assert.equal(fillTemplate("{{range .Routes}}<{{.}}>{{end}}", data), "<0.0.0.0/0><::/0>");
});

test("what is unknown or unfinished is refused", () => {
  for (const template of [
    "{{.Nothing}}",
    "{{$x}}",
    "{{range .Routes}}",
    "{{end}}",
    "{{printf 1}}",
    "{{.PodCIDR",
    "{{range .PodCIDR}}{{end}}",
  ]) {
    assert.throws(() => fillTemplate(template, data), /^FlotillaError: template: /, template);
  }
});
