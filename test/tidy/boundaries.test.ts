import assert from "node:assert/strict";
import { posix } from "node:path";
import test from "node:test";
import { importsOf, readSources, type SourceFile, valueImportsOf } from "./sources.ts";

/**
 * What each folder may use. The first rule whose folder holds a file is its rule. `#x` is a folder of shared/, `node:` the platform,
 * anything else a package. Files always may use what lies in their own folder of this table.
 */
const layers: readonly { readonly folder: string; readonly uses: readonly string[] }[] = [
  { folder: "shared/base/", uses: ["node:"] },
  { folder: "shared/containerd/", uses: ["node:", "#base", "re2js"] },
  { folder: "shared/config/", uses: ["node:", "#base", "#containerd", "smol-toml"] },
  { folder: "shared/sqlite/", uses: ["node:", "#base", "#containerd", "#gen", "better-sqlite3"] },
  { folder: "shared/linux/", uses: ["node:", "#base", "#containerd", "koffi", "execa"] },
  { folder: "shared/tar/", uses: ["node:", "#base", "#linux"] },
  {
    folder: "shared/wire/",
    uses: ["node:", "#base", "#containerd", "#gen", "#linux", "@bufbuild/protobuf", "@connectrpc/connect"],
  },
  {
    folder: "shared/fleet/",
    uses: [
      "node:",
      "#base",
      "#containerd",
      "#gen",
      "#config",
      "#linux",
      "#wire",
      "@bufbuild/protobuf",
      "@connectrpc/connect",
      "pino",
      "execa",
    ],
  },
  { folder: "services/plugins.", uses: ["#fleet", "services/"] },
  { folder: "services/settings-page.ts", uses: ["#config", "services/"] },
  { folder: "services/cri/", uses: ["node:", "#", "@bufbuild/protobuf", "@connectrpc/connect", "execa", "ws", "yaml"] },
  { folder: "services/metadata/", uses: ["node:", "#", "@bufbuild/protobuf", "@connectrpc/connect", "better-sqlite3"] },
  { folder: "services/events/", uses: ["node:", "#", "@bufbuild/protobuf", "@connectrpc/connect", "nats"] },
  { folder: "services/content/", uses: ["node:", "#", "@bufbuild/protobuf", "@connectrpc/connect"] },
  { folder: "services/snapshots/", uses: ["node:", "#", "@bufbuild/protobuf", "@connectrpc/connect", "execa"] },
  { folder: "services/tasks/", uses: ["node:", "#", "@bufbuild/protobuf", "@connectrpc/connect", "execa"] },
  {
    folder: "services/transfer/",
    uses: ["node:", "#", "@bufbuild/protobuf", "@connectrpc/connect", "smol-toml", "undici", "execa"],
  },
  {
    folder: "services/gateway/",
    uses: [
      "node:",
      "#",
      "services/plugins.ts",
      "@bufbuild/protobuf",
      "@connectrpc/connect",
      "smol-toml",
      "@opentelemetry/",
      "execa",
    ],
  },
  { folder: "deploy/", uses: ["node:", "#fleet", "services/settings-page.ts", "services/gateway/cli/", "esbuild"] },
  {
    folder: "test/",
    uses: [
      "node:",
      "#",
      "services/",
      "deploy/unit-files.ts",
      "@",
      "fast-check",
      "execa",
      "nats",
      "better-sqlite3",
      "smol-toml",
      "pino",
    ],
  },
];

/** Packages that one place alone may know, so that a change of them is a change of that place. */
const keepers: readonly { readonly package: string; readonly places: readonly string[] }[] = [
  { package: "nats", places: ["services/events/bus/nats.ts"] },
  { package: "koffi", places: ["shared/linux/"] },
  { package: "better-sqlite3", places: ["shared/sqlite/", "services/metadata/store/"] },
  { package: "undici", places: ["services/transfer/registry/http/"] },
  { package: "ws", places: ["services/cri/streaming/"] },
  { package: "yaml", places: ["services/cri/cdi/yaml-text.ts"] },
  { package: "pino", places: ["shared/fleet/log.ts"] },
  { package: "@opentelemetry/api", places: ["services/gateway/tracing/"] },
  { package: "@opentelemetry/exporter-trace-otlp-proto", places: ["services/gateway/tracing/"] },
  { package: "@opentelemetry/resources", places: ["services/gateway/tracing/"] },
  { package: "@opentelemetry/sdk-trace", places: ["services/gateway/tracing/"] },
  // Our own sockets are served and called by shared/wire/http2; these are for tests.
  { package: "@connectrpc/connect-node", places: [] },
  { package: "node:http2", places: [] },
];

const testFile = /\.test\.ts$/;

function targetOf(file: SourceFile, specifier: string): string {
  return specifier.startsWith(".") ? posix.normalize(posix.join(posix.dirname(file.path), specifier)) : specifier;
}

test("every file uses only the layers below it", () => {
  const sources = readSources();
  assert.ok(sources.length > 50, "the sources were found");
  const violations: string[] = [];
  for (const file of sources) {
    const layer = layers.find(({ folder }) => file.path.startsWith(folder));
    if (layer === undefined) {
      violations.push(`${file.path}: its folder is not in the table of layers`);
      continue;
    }
    for (const specifier of importsOf(file)) {
      const target = targetOf(file, specifier);
      const own = target.startsWith(layer.folder) || `shared/${target.slice(1)}`.startsWith(layer.folder);
      const allowed = [
        ...layer.uses,
        ...(testFile.test(file.path)
          ? ["node:", "fast-check", "#", "@connectrpc/connect", "execa", "esbuild", "smol-toml"]
          : []),
      ];
      if (!own && !allowed.some((prefix) => target.startsWith(prefix))) {
        violations.push(`${file.path}: may not import ${specifier}`);
      }
    }
  }
  assert.deepEqual(violations, []);
});

/** What code in a folder `domain` may run: rules of its own and of the API, and what is the same everywhere. Types may come from anywhere. */
const domainUses = /^(?:#base\/(?!durable-file)|#containerd\/|node:crypto$|services\/\w+\/domain\/)/;

test("a domain knows rules and types, no sockets, no files, no configuration", () => {
  const files = readSources().filter(({ path }) => /^services\/\w+\/domain\//.test(path) && !testFile.test(path));
  assert.ok(files.length > 20);
  const violations = files.flatMap((file) =>
    valueImportsOf(file)
      .filter((specifier) => !domainUses.test(targetOf(file, specifier)))
      .map((specifier) => `${file.path}: may not import ${specifier}, but for types`),
  );
  assert.deepEqual(violations, []);
});

test("packages stay with their keepers", () => {
  const violations: string[] = [];
  for (const file of readSources().filter(({ path }) => !path.startsWith("test/") && !testFile.test(path))) {
    for (const specifier of importsOf(file)) {
      const keeper = keepers.find((candidate) => candidate.package === specifier);
      if (keeper !== undefined && !keeper.places.some((place) => file.path.startsWith(place))) {
        violations.push(`${file.path}: only ${keeper.places.join(", ") || "tests"} may import ${specifier}`);
      }
    }
  }
  assert.deepEqual(violations, []);
});
