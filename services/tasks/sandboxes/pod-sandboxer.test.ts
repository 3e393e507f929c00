import assert from "node:assert/strict";
import test from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { TaskTable } from "../domain/task-table.ts";
import type { Task } from "../lifecycle.ts";
import { PodSandboxer, type PodSandboxParts } from "./pod-sandboxer.ts";

test("who waits for a pause container and who stops it delete its task once", async () => {
  const ended = Promise.withResolvers<object>();
  const supervisor = {
    call: (method: { readonly name: string }) => {
      if (method.name === "Kill") {
        ended.resolve({ exitStatus: 137 });
      }
      return ended.promise;
    },
  };
  const task = { namespace: "n", id: "pod", supervisor } as unknown as Task;
  const table = new TaskTable<Task>();
  await table.reserve("n", "pod", new AbortController().signal);
  table.add(task);
  let deletions = 0;
  const lifecycle = {
    delete: async () => {
      deletions += 1;
      await delay(5);
      table.remove(task);
    },
  };
  const sandboxer = new PodSandboxer({ table, lifecycle } as unknown as PodSandboxParts);
  const call = { namespace: "n", id: "pod", signal: new AbortController().signal };
  const [end] = await Promise.all([sandboxer.wait(call), sandboxer.stop(call), sandboxer.stop(call)]);
  assert.equal(end.exitStatus, 137);
  assert.equal(deletions, 1);
  await sandboxer.stop(call);
  assert.equal(deletions, 1);
});
