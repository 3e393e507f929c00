import assert from "node:assert/strict";
import test from "node:test";
import { type ConfigDocument, parseDocument } from "./document.ts";
import { migrateDocument } from "./migrate.ts";
import { testPlugins } from "./test-plugins.ts";

function migrate(text: string): { document: ConfigDocument; warnings: string[] } {
  const warnings: string[] = [];
  const written = parseDocument(text, "config.toml", assert.fail);
  // By way of JSON, so that tables compare equal whatever their prototype.
  const document = migrateDocument(written, testPlugins, (warning) => warnings.push(warning));
  return { document: JSON.parse(JSON.stringify(document)) as ConfigDocument, warnings };
}

test("a file of the present version stays as it is", () => {
  const { document, warnings } = migrate('version = 4\n[plugins.short]\nkey = 1\n[grpc]\naddress = "/x"\n');
  assert.deepEqual(document, { version: 4, plugins: { short: { key: 1 } }, grpc: { address: "/x" } });
  assert.deepEqual(warnings, []);
});

test("short names of version 1 become full ones", () => {
  const { document, warnings } = migrate(`
disabled_plugins = ["cri", "zfs", "io.containerd.internal.v1.opt", "mystery"]
required_plugins = ["tasks-service"]
[plugins.scheduler]
deletion_threshold = 1
[plugins.cgroups]
no_prometheus = true
[plugins.restart]
interval = "1s"
[plugins.linux]
shim = "containerd-shim"
`);
  assert.deepEqual(document.disabled_plugins, [
    "io.containerd.grpc.v1.cri",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.internal.v1.opt",
    "io.containerd.grpc.v1.mystery",
  ]);
  assert.deepEqual(document.required_plugins, ["io.containerd.service.v1.tasks-service"]);
  assert.deepEqual(document.plugins, {
    "io.containerd.gc.v1.scheduler": { deletion_threshold: 1 },
    "io.containerd.monitor.task.v1.cgroups": { no_prometheus: true },
    "io.containerd.monitor.container.v1.restart": { interval: "1s" },
    "io.containerd.runtime.v1.linux": { shim: "containerd-shim" },
  });
  assert.deepEqual(warnings, [
    "Ambiguous mystery plugin in v1 config, treating as io.containerd.grpc.v1.mystery",
    "Configuration migrated from version 0, use `flotilla config migrate` to avoid migration",
  ]);
});

test("plugins that are disabled or required by a former name are meant by their present one", () => {
  const { document } = migrate(`version = 2
disabled_plugins = ["io.containerd.internal.v1.restart", "io.containerd.grpc.v1.cri"]
required_plugins = ["io.containerd.monitor.v1.cgroups"]
`);
  assert.deepEqual(document.disabled_plugins, [
    "io.containerd.monitor.container.v1.restart",
    "io.containerd.grpc.v1.cri",
  ]);
  assert.deepEqual(document.required_plugins, ["io.containerd.monitor.task.v1.cgroups"]);
});

test("listeners move to plugins, and nothing is made of nothing", () => {
  assert.deepEqual(migrate("version = 3\n").document, { version: 4, plugins: {} });
  assert.deepEqual(
    migrate(`version = 3
[grpc]
tcp_address = ":1"
tcp_tls_ca = "/ca"
tcp_tls_cert = "/cert"
tcp_tls_key = "/key"
tcp_tls_common_name = "name"
max_recv_message_size = 5
gid = 9
[ttrpc]
address = "/t.sock"
[debug]
level = "warn"
address = "/d.sock"
gid = 3
[metrics]
grpc_histogram = true
`).document,
    {
      version: 4,
      debug: { level: "warn" },
      plugins: {
        "io.containerd.server.v1.debug": { address: "/d.sock", uid: 0, gid: 3 },
        "io.containerd.server.v1.grpc": { gid: 9, max_recv_message_size: 5 },
        "io.containerd.server.v1.grpc-tcp": {
          address: ":1",
          tls_ca: "/ca",
          tls_cert: "/cert",
          tls_key: "/key",
          tls_common_name: "name",
          max_recv_message_size: 5,
        },
        "io.containerd.server.v1.ttrpc": { address: "/t.sock", uid: 0, gid: 0 },
        "io.containerd.metrics.v1.grpc-prometheus": { grpc_histogram: true },
      },
    },
  );
});

test("a plugin's own table wins over the section", () => {
  const { document } = migrate(`version = 3
[grpc]
address = "/section.sock"
[plugins."io.containerd.server.v1.grpc"]
address = "/plugin.sock"
`);
  assert.deepEqual(document.plugins?.["io.containerd.server.v1.grpc"], { address: "/plugin.sock" });
});
