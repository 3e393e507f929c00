import assert from "node:assert/strict";
import test from "node:test";
import { methodFacts } from "./method-facts.ts";
import { type Identity, type JudgedCall, judge } from "./policy.ts";
import { parsePolicy } from "./policy-file.ts";

const facts = methodFacts();
const methods = [...facts.keys()];
const user = (uid: number, ...gids: number[]): Identity => ({ kind: "user", uid, pid: 1, gids: [uid, ...gids] });
const certificate = (commonName: string, ...names: string[]): Identity => ({
  kind: "certificate",
  commonName,
  names,
  peer: "192.0.2.1:1",
});
const services = "containerd.services";
const getImage = `${services}.images.v1.Images/Get`;
const createImage = `${services}.images.v1.Images/Create`;

function allows(text: string, who: Identity, method: string, namespace = "default"): boolean {
  const call: JudgedCall = { method, namespace };
  const known = facts.get(method);
  assert.ok(known !== undefined, method);
  return judge(parsePolicy(text, "policy.toml", methods), who, call, known).isAllowed;
}

test("the first rule that fits decides, and none lets nobody in", () => {
  const policy = `version = 1
[[rules]]
users = [0]
access = "full"
[[rules]]
groups = [500]
methods = ["Images/Create"]
access = "none"
[[rules]]
groups = [500]
access = "full"
[[rules]]
users = [1001]
access = "read"
`;
  assert.equal(allows(policy, user(0), createImage), true);
  assert.equal(allows(policy, user(7, 500), createImage), false);
  assert.equal(allows(policy, user(7, 500), getImage), true);
  assert.equal(allows(policy, user(1001), getImage), true);
  assert.equal(allows(policy, user(1001), createImage), false);
  assert.equal(allows(policy, user(1002), getImage), false);
  assert.equal(allows(policy, { kind: "anonymous", peer: "" }, getImage), false);
  assert.equal(allows('version = 1\ndefault = "read"', user(1002), getImage), true);
  assert.equal(allows('version = 1\ndefault = "read"', user(1002), createImage), false);
});

test("a rule for namespaces is for these, and what reaches over all needs a rule for all", () => {
  const policy = 'version = 1\n[[rules]]\nusers = [1001]\nnamespaces = ["build-*", "x"]\naccess = "full"\n';
  assert.equal(allows(policy, user(1001), createImage, "build-1"), true);
  assert.equal(allows(policy, user(1001), createImage, "x"), true);
  assert.equal(allows(policy, user(1001), createImage, "xx"), false);
  assert.equal(allows(policy, user(1001), createImage, "my-build-1"), false);
  assert.equal(allows(policy, user(1001), createImage, ""), false);
  assert.equal(allows(policy, user(1001), `${services}.version.v1.Version/Version`, ""), true);
  assert.equal(allows(policy, user(1001), `${services}.namespaces.v1.Namespaces/List`, "x"), true);
  assert.equal(allows(policy, user(1001), `${services}.namespaces.v1.Namespaces/Delete`, "x"), false);
  assert.equal(allows(policy, user(1001), `${services}.events.v1.Events/Subscribe`, "x"), false);
});

test("certificates are known by their common name or another of their names", () => {
  const policy = 'version = 1\n[[rules]]\ncertificates = ["ci-*", "DNS:build.example.org"]\naccess = "full"\n';
  assert.equal(allows(policy, certificate("ci-7"), createImage), true);
  assert.equal(allows(policy, certificate("", "DNS:build.example.org"), createImage), true);
  assert.equal(allows(policy, certificate("build.example.org", "DNS:build.example.org.evil"), createImage), false);
  assert.equal(allows(policy, user(0), createImage), false);
});

test("methods are named in full or shortly", () => {
  const policy = (pattern: string): string => `version = 1\n[[rules]]\nmethods = ["${pattern}"]\naccess = "full"\n`;
  for (const pattern of [createImage, "Images/Create", "Images/*", "*", "*Images/Cr*"]) {
    assert.equal(allows(policy(pattern), user(1), createImage), true, pattern);
    assert.equal(allows(policy(pattern), user(1), `${services}.leases.v1.Leases/Create`), pattern === "*", pattern);
  }
});

test("what could be misread is refused with its place", () => {
  const refusals: Record<string, RegExp> = {
    "version = 2": / policy.toml: version: this daemon reads policies of version 1: invalid argument$/,
    "": / policy.toml: version: expected an integer, got nothing/,
    "version = 1\nrule = 1": /there is no setting "rule"/,
    'version = 1\n[[rules]]\nuser = ["root"]\naccess = "full"': /rule 1: there is no setting "user"/,
    'version = 1\n[[rules]]\nname = "a"\nusers = ["no-such-user"]\naccess = "full"':
      /a: there is no user "no-such-user"/,
    'version = 1\n[[rules]]\nmethods = ["Images/Make"]\naccess = "full"': /there is no method "Images\/Make"/,
    'version = 1\n[[rules]]\naccess = "write"': /expected "full" or "read" or "none", got "write"/,
    "version = 1\n[[rules]]": /access: expected a string, got nothing/,
    "version = 1\nrules = 3": /expected an array of tables/,
    "version = [": / policy.toml: /,
  };
  for (const [text, expected] of Object.entries(refusals)) {
    assert.throws(() => parsePolicy(text, "policy.toml", methods), expected, text);
  }
});
