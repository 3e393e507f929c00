import assert from "node:assert/strict";
import test from "node:test";
import { type ConfigDocument, parseDocument } from "./document.ts";
import { migrateDocument } from "./migrate.ts";

function migrate(text: string): { document: ConfigDocument; warnings: string[] } {
  const warnings: string[] = [];
  const written = parseDocument(text, "config.toml", assert.fail);
  // By way of JSON, so that tables compare equal whatever their prototype.
  const document = migrateDocument(written, (warning) => warnings.push(warning));
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

test("the table of CRI is split between server, images and runtime", () => {
  const { document } = migrate(`version = 2
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "pause:1"
max_concurrent_downloads = 7
stream_server_port = "10010"
enable_selinux = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/cni"
conf_dir = "/conf"
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "/certs"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
default_runtime_name = "kata"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata]
runtime_type = "io.containerd.kata.v2"
snapshotter = "devmapper"
sandbox_mode = "shim"
`);
  assert.deepEqual(document.plugins, {
    "io.containerd.grpc.v1.cri": { stream_server_port: "10010" },
    "io.containerd.cri.v1.images": {
      max_concurrent_downloads: 7,
      registry: { config_path: "/certs" },
      snapshotter: "native",
      pinned_images: { sandbox: "pause:1" },
    },
    "io.containerd.cri.v1.runtime": {
      enable_selinux: true,
      cni: { conf_dir: "/conf", bin_dirs: ["/cni"] },
      containerd: {
        default_runtime_name: "kata",
        runtimes: {
          kata: { runtime_type: "io.containerd.kata.v2", snapshotter: "devmapper", sandboxer: "shim" },
        },
      },
    },
  });
});

test("what stands in the new tables of CRI already is kept", () => {
  const { document } = migrate(`version = 3
[plugins."io.containerd.grpc.v1.cri"]
enable_selinux = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/old"
[plugins."io.containerd.cri.v1.runtime"]
enable_selinux = false
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/new"]
`);
  assert.deepEqual(document.plugins?.["io.containerd.cri.v1.runtime"], {
    enable_selinux: false,
    cni: { bin_dirs: ["/new"] },
  });
});
