import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import test from "node:test";
import type { DescService } from "@bufbuild/protobuf";
import { execa } from "execa";
import { type ProcessRights, rights } from "#fleet/rights.ts";
import { startups } from "#fleet/startup.ts";
import { fleet, routesByPath } from "#fleet/topology.ts";
import { unitFiles } from "../../deploy/unit-files.ts";
import { readSources } from "./sources.ts";

test("every method of every public service is answered by exactly one process", () => {
  const owners = new Map<string, string[]>();
  const services = new Set<DescService>();
  for (const { name, answers } of fleet) {
    for (const [service, methods] of answers) {
      services.add(service);
      for (const method of methods === "all" ? service.methods.map((all) => all.name) : methods) {
        const path = `/${service.typeName}/${method}`;
        owners.set(path, [...(owners.get(path) ?? []), name]);
      }
    }
  }
  for (const service of services) {
    for (const method of service.methods) {
      const path = `/${service.typeName}/${method.name}`;
      assert.equal(owners.get(path)?.length, 1, `${path} is owned by [${owners.get(path)?.join(", ") ?? ""}]`);
      owners.delete(path);
    }
  }
  assert.deepEqual([...owners.keys()], [], "methods that no service has");
  assert.ok(routesByPath().size > 60);
});

test("a process has the same flags of Node.js whoever starts it", async () => {
  const printFlags = '. deploy/environment.sh; for name; do echo "$(flags_of "$name")"; done';
  const { stdout } = await execa("sh", ["-c", printFlags, "sh", ...fleet.map(({ name }) => name)]);
  assert.deepEqual(
    stdout.split("\n"),
    fleet.map(({ name }) => (startups[name].nodeFlags ?? []).join(" ")),
  );
  assert.match(stdout, /--/);
});

test("a process starts after processes that exist, without a cycle", () => {
  const started = new Set<string>();
  let waiting = [...fleet];
  while (waiting.length > 0) {
    const ready = waiting.filter(({ name }) => startups[name].after.every((earlier) => started.has(earlier)));
    assert.notEqual(ready.length, 0, `cycle among ${waiting.map(({ name }) => name).join(", ")}`);
    ready.forEach(({ name }) => started.add(name));
    waiting = waiting.filter((process) => !ready.includes(process));
  }
});

test("the units are those that the tables make", () => {
  const directory = "deploy/systemd/fleet";
  const made = unitFiles({ program: "/opt/flotilla", root: "/var/lib/containerd", state: "/run/containerd" });
  assert.deepEqual(readdirSync(directory).sort(), [...made.keys()].sort(), "node deploy/units.ts writes them");
  for (const [name, text] of made) {
    assert.equal(readFileSync(`${directory}/${name}`, "utf8"), text, name);
  }
});

test("clients reach no private service", () => {
  const isPrivate = (path: string): boolean => path.startsWith("/flotilla.");
  assert.deepEqual([...routesByPath().keys()].filter(isPrivate), []);
});

test("processes connect to the peers that their rights name, and to no others", () => {
  const sources = readSources();
  for (const { name } of fleet.filter((process) => process.name !== "gateway")) {
    const own = sources.filter(({ path }) => path.startsWith(`services/${name}/`));
    const peers = own.flatMap(({ text }) => Array.from(text.matchAll(/\bconnect\("(\w+)"\)/g), ([, peer]) => peer));
    assert.deepEqual(new Set(peers), new Set<string>(rights[name].calls), `shared/fleet/rights.ts: ${name}`);
  }
  const others = fleet.map(({ name }) => name).filter((name) => name !== "gateway");
  assert.deepEqual(new Set(rights.gateway.calls), new Set(others), "the gateway asks each process of its plugins");
});

test("the table of rights in the README is the one that holds", () => {
  const readme = readFileSync("shared/fleet/README.md", "utf8");
  const rows = fleet.map(({ name }) => rightsRow(name, rights[name]));
  const start = readme.indexOf("| --- | --- | --- | --- | --- | --- |");
  const written = readme.slice(start).split("\n\n")[0]?.split("\n").slice(1);
  assert.deepEqual(written, rows);
});

function rightsRow(name: string, { user, capabilities, writes, calls, network }: ProcessRights): string {
  const list = (items: readonly string[]): string => (items.length === 0 ? "–" : items.join(", "));
  const kept = capabilities === "all" ? "all" : list(capabilities.map((capability) => capability.replace("CAP_", "")));
  const directories = list(writes.map((directory) => `\`${directory}\``));
  return `| ${name} | ${user} | ${kept} | ${directories} | ${list(calls)} | ${network ? "yes" : "no"} |`;
}
