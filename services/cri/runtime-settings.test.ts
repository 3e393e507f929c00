import assert from "node:assert/strict";
import test from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { defaultTable } from "#config/plugin-tables.ts";
import { PluginSettings } from "#config/settings.ts";
import { OptionsSchema as RuncOptionsSchema } from "#gen/containerd/runc/v1/options_pb.ts";
import { OptionsSchema as GenericOptionsSchema } from "#gen/runtimeoptions/v1/options_pb.ts";
import { runtimePlugin } from "./runtime-plugin.ts";
import { type RuntimeSettings, readRuntimes } from "./runtime-settings.ts";

/** The table of one runtime as the configuration completes it. */
const blank = {
  runtime_type: "io.containerd.runc.v2",
  runtime_path: "",
  pod_annotations: [],
  container_annotations: [],
  privileged_without_host_devices: false,
  privileged_without_host_devices_all_devices_allowed: false,
  cgroup_writable: false,
  base_runtime_spec: "",
  cni_conf_dir: "",
  cni_max_conf_num: 0,
  snapshotter: "",
  sandboxer: "",
  io_type: "",
};

function read(
  runtimes: Readonly<Record<string, object>>,
  { defaultName = "runc", hasUnifiedCgroups = true } = {},
): ReadonlyMap<string, RuntimeSettings> {
  const table = { default_runtime_name: defaultName, runtimes };
  return readRuntimes(new PluginSettings(table, ["plugins", "x", "containerd"], []), hasUnifiedCgroups);
}

test("the runtime that is there without configuration is runc's, with cgroups by path", () => {
  const table = new PluginSettings(defaultTable(runtimePlugin), ["plugins", "x"], []);
  const runc = readRuntimes(table.table("containerd"), true).get("runc");
  assert.equal(runc?.type, "io.containerd.runc.v2");
  assert.equal(runc.sandboxer, "podsandbox");
  assert.equal(runc.systemdCgroup, false);
});

test("options become the message of their runtime, whatever the case of their names", () => {
  const options = { BinaryName: "crun", systemdcgroup: true, IoUid: 5 };
  const runc = read({ runc: { ...blank, options } }).get("runc");
  const packed = fromBinary(RuncOptionsSchema, runc?.options?.value ?? new Uint8Array());
  assert.equal(runc?.options?.typeUrl, "containerd.runc.v1.Options");
  assert.deepEqual(
    { binaryName: packed.binaryName, systemdCgroup: packed.systemdCgroup, ioUid: packed.ioUid },
    { binaryName: "crun", systemdCgroup: true, ioUid: 5 },
  );
  assert.equal(runc.systemdCgroup, true);
  assert.throws(() => read({ runc: { ...blank, options: { BinaryName: 7 } } }), /option binaryName: expected a string/);
});

test("options of other runtimes are handed on as a configuration, by path or whole", () => {
  const kata = { ...blank, runtime_type: "io.containerd.kata.v2" };
  const unpack = (settings: RuntimeSettings | undefined) =>
    fromBinary(GenericOptionsSchema, settings?.options?.value ?? new Uint8Array());
  const byPath = unpack(read({ runc: { ...kata, options: { ConfigPath: "/etc/kata.toml" } } }).get("runc"));
  assert.equal(byPath.configPath, "/etc/kata.toml");
  assert.equal(byPath.configBody.length, 0);
  const whole = read({ runc: { ...kata, options: { log_level: "debug" } } }).get("runc");
  assert.equal(Buffer.from(unpack(whole).configBody).toString(), "log_level = 'debug'\n");
  assert.equal(whole?.systemdCgroup, undefined);
  assert.equal(read({ runc: kata }).get("runc")?.options, undefined);
});

test("what can't be is refused, in containerd's words where it has some", () => {
  const refuse = (runtime: object, message: RegExp, options = {}): void => {
    assert.throws(() => read({ runc: { ...blank, ...runtime } }, options), message);
  };
  refuse({}, /`default_runtime_name` is empty/, { defaultName: "" });
  refuse({}, /no corresponding runtime configured in `containerd\.runtimes` .* `default_runtime_name = "moon"/, {
    defaultName: "moon",
  });
  refuse({ cgroup_writable: true }, /runtime runc: `cgroup_writable` is only supported on cgroup v2/, {
    hasUnifiedCgroups: false,
  });
  refuse(
    { privileged_without_host_devices_all_devices_allowed: true },
    /requires `privileged_without_host_devices` to be enabled/,
  );
  refuse({ io_type: "pipe" }, /`io_type` can only be `streaming` or `named_pipe`/);
  refuse({ io_type: "streaming" }, /`streaming` is not served/);
});
