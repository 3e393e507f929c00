import assert from "node:assert/strict";
import test from "node:test";
import { type ConfigDocument, parseDocument } from "#config/document.ts";
import { migrateDocument } from "#config/migrate.ts";
import { tasksPlugins } from "./plugins.ts";

function migrate(text: string): { document: ConfigDocument; warnings: string[] } {
  const warnings: string[] = [];
  const written = parseDocument(text, "config.toml", assert.fail);
  // By way of JSON, so that tables compare equal whatever their prototype.
  const document = migrateDocument(written, tasksPlugins, (warning) => warnings.push(warning));
  return { document: JSON.parse(JSON.stringify(document)) as ConfigDocument, warnings };
}

test("core scheduling moves to the environment of shims", () => {
  const task = "io.containerd.runtime.v2.task";
  const on = migrate(`version = 2\n[plugins."${task}"]\nsched_core = true\nplatforms = ["linux/amd64"]\n`).document;
  assert.deepEqual(on.plugins, {
    [task]: { platforms: ["linux/amd64"] },
    "io.containerd.shim.v1.manager": { env: ["SCHED_CORE=1"] },
  });
  assert.deepEqual(migrate(`version = 2\n[plugins."${task}"]\nsched_core = false\n`).document.plugins, { [task]: {} });
  assert.match(
    migrate(`version = 2\n[plugins."${task}"]\nsched_core = "yes"\n`).warnings.join(),
    /skipping migration for non-boolean 'sched_core' value: a string/,
  );
});
