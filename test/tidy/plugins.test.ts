import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { posix } from "node:path";
import test from "node:test";
import { pluginUri } from "#config/manifest.ts";
import { allPlugins } from "../../services/plugins.ts";
import { settingsPage } from "../../services/settings-page.ts";
import { importsOf, readSources } from "./sources.ts";

const index = "services/plugins.ts";
const manifestFiles = readSources().filter(({ path }) => /^services\/.*\/plugins?\.ts$/.test(path));

test("the list of all plugins has every folder that has plugins", () => {
  const [list] = readSources().filter(({ path }) => path === index);
  assert.ok(list !== undefined);
  const imported = importsOf(list).map((specifier) => posix.join("services", specifier));
  const folders = manifestFiles.map(({ path }) => path).filter((path) => /^services\/[^/]+\/plugins\.ts$/.test(path));
  assert.ok(folders.length > 5);
  assert.deepEqual(
    folders.filter((path) => !imported.includes(path)),
    [],
    `import them in ${index}`,
  );
});

test("a manifest stands beside the code of its plugin and needs none of it", () => {
  const violations = manifestFiles.flatMap((file) =>
    importsOf(file)
      .filter(
        (specifier) =>
          !["#fleet/manifest.ts", "#config/", "#base/limits.ts"].some((allowed) => specifier.startsWith(allowed)) &&
          !/(?:^|[/-])(?:plugins?|config-migration)\.ts$/.test(specifier),
      )
      .map((specifier) => `${file.path}: imports ${specifier}`),
  );
  assert.deepEqual(violations, []);
});

test("the reference of settings is what manifests say", () => {
  assert.equal(readFileSync("services/SETTINGS.md", "utf8"), settingsPage(), "npm run gen");
});

test("every plugin that a process of the fleet defines has its manifest in the list", () => {
  const declared = new Set(allPlugins.map(pluginUri));
  const typed = /type: "(io\.\w+\.[\w.-]+)",\s*id: "([\w-]+)"/g;
  const found = manifestFiles.flatMap(({ path, text }) =>
    Array.from(text.matchAll(typed), ([, type, id]) => ({ path, uri: `${type}.${id}` })),
  );
  assert.ok(found.length > 10);
  assert.deepEqual(
    found.filter(({ uri }) => !declared.has(uri)),
    [],
  );
});
