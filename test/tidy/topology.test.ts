import assert from "node:assert/strict";
import test from "node:test";
import type { DescService } from "@bufbuild/protobuf";
import { fleet, routesByPath } from "#fleet/topology.ts";

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

test("a process starts after processes that exist, without a cycle", () => {
  const started = new Set<string>();
  let waiting = [...fleet];
  while (waiting.length > 0) {
    const ready = waiting.filter(({ after }) => after.every((name) => started.has(name)));
    assert.notEqual(ready.length, 0, `cycle among ${waiting.map(({ name }) => name).join(", ")}`);
    ready.forEach(({ name }) => started.add(name));
    waiting = waiting.filter((process) => !ready.includes(process));
  }
});
