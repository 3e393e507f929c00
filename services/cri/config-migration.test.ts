import assert from "node:assert/strict";
import test from "node:test";
import { type ConfigDocument, parseDocument } from "#config/document.ts";
import { migrateDocument } from "#config/migrate.ts";
import { criPlugins } from "./plugins.ts";

function migrate(text: string): { document: ConfigDocument; warnings: string[] } {
  const warnings: string[] = [];
  const written = parseDocument(text, "config.toml", assert.fail);
  // By way of JSON, so that tables compare equal whatever their prototype.
  const document = migrateDocument(written, criPlugins, (warning) => warnings.push(warning));
  return { document: JSON.parse(JSON.stringify(document)) as ConfigDocument, warnings };
}

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
