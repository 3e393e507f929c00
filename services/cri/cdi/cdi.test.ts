import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import type { Logger } from "#fleet/log.ts";
import type { OciDevice, OciSpec } from "../containers/spec/oci-spec.ts";
import { applyEdits } from "./apply-edits.ts";
import { CdiDevices } from "./cdi-devices.ts";
import { checkDocument } from "./cdi-document.ts";
import { isQualifiedName, wantedDevices } from "./device-name.ts";

const device = { name: "one", containerEdits: { env: ["A=1"] } };
const document = { cdiVersion: "0.3.0", kind: "vendor.com/class", devices: [device] };
const null0: OciDevice = { path: "/dev/null", type: "c", major: 1, minor: 3, fileMode: 0o666, uid: 0, gid: 0 };

function findDevice(path: string): Promise<OciDevice> {
  return path === "/dev/null" ? Promise.resolve(null0) : Promise.reject(new Error("no such file or directory"));
}

/** The directories of static and of dynamic files, and what is told in the log. */
async function openDevices(t: TestContext) {
  const directory = await mkdtemp(join(tmpdir(), "flotilla-cdi-"));
  t.after(() => rm(directory, { recursive: true, force: true }));
  const directories = ["etc", "run"].map((name) => join(directory, name));
  await Promise.all(directories.map((path) => mkdir(path)));
  const told: string[] = [];
  const log = { warn: ({ reason }: { reason: string }) => told.push(reason) } as unknown as Logger;
  const devices = new CdiDevices(() => [...directories, join(directory, "none")], findDevice, log);
  const write = (name: string, content: unknown): Promise<void> =>
    writeFile(join(directory, name), typeof content === "string" ? content : JSON.stringify(content));
  const inject = async (...names: string[]): Promise<OciSpec> => {
    const spec: OciSpec = { ociVersion: "1.3.0" };
    await devices.inject(spec, names);
    return spec;
  };
  const environment = async (...names: string[]) => (await inject(...names)).process?.env;
  return { write, inject, environment, told };
}

test("devices are asked for by whole names, each once, by field and by annotations", () => {
  assert.deepEqual(["v/c=d", "v.x/c-1=0:a", "v/c", "v/c=", "/c=d", "v/c=d e", "1/c=d"].map(isQualifiedName), [
    true,
    true,
    false,
    false,
    false,
    false,
    false,
  ]);
  const annotations = { "cdi.k8s.io/plugin_1": "v/c=b,v/c=a", other: "v/c=x" };
  assert.deepEqual(wantedDevices([{ name: "v/c=a" }, { name: "v/c=a" }], annotations), ["v/c=a", "v/c=b"]);
  assert.throws(() => wantedDevices([], { "cdi.k8s.io/p": "v/c" }), {
    message: 'failed to parse CDI device annotations: invalid CDI device name "v/c"',
  });
});

test("documents are judged strictly", () => {
  const wrong: readonly (readonly [change: object, message: RegExp])[] = [
    [{ cdiVersion: "9.0.0" }, /^Error: invalid version "9.0.0"$/],
    [{ kind: "class" }, /invalid class ""/],
    [{ unknown: 1 }, /unknown field "unknown" in document/],
    [{ devices: [] }, /no devices/],
    [{ devices: [device, device] }, /multiple device "one"/],
    [{ devices: [{ name: "one", containerEdits: {} }] }, /empty device edits/],
    [{ devices: [{ name: "one", containerEdits: { env: ["A"] } }] }, /invalid environment variable "A"/],
    [{ containerEdits: { deviceNodes: [{ path: "/dev/x", type: "d" }] } }, /device "\/dev\/x": invalid type "d"/],
    [{ containerEdits: { deviceNodes: [{ path: "/dev/x", uid: -1 }] } }, /deviceNodes\[0\]\.uid must be of type id/],
    [{ containerEdits: { hooks: [{ hookName: "later", path: "/x" }] } }, /invalid hook name "later"/],
    [{ containerEdits: { mounts: [{ hostPath: "/x" }] } }, /empty container path/],
    [{ containerEdits: { additionalGids: [1] } }, /the spec version must be at least v0.7.0/],
    [{ cdiVersion: "1.0.0", containerEdits: { intelRdt: { enableMonitoring: true } } }, /at least v1.1.0/],
    [{ cdiVersion: "0.7.0", containerEdits: { intelRdt: { closID: "a/b" } } }, /invalid ClosID/],
  ];
  assert.equal(checkDocument(document).devices.length, 1);
  for (const [change, message] of wrong) {
    assert.throws(() => checkDocument({ ...document, ...change }), message, JSON.stringify(change));
  }
  assert.throws(() => checkDocument(null), /document must be a table/);
});

test("a specification is changed by all that a device says", async () => {
  const spec: OciSpec = {
    ociVersion: "1.3.0",
    process: { cwd: "/", user: { uid: 7, gid: 0, additionalGids: [5] }, env: ["A=0", "B=0"] },
    mounts: [{ destination: "/a/b" }, { destination: "/x" }],
  };
  const edits = {
    env: ["A=1", "C=1"],
    deviceNodes: [
      { path: "/dev/mine", hostPath: "/dev/null", permissions: "r" },
      { path: "/dev/whole", type: "b", major: 8, gid: 3 },
    ],
    netDevices: [{ hostInterfaceName: "eth7", name: "net0" }],
    hooks: [{ hookName: "createContainer", path: "/hook", args: ["hook"] }],
    mounts: [{ hostPath: "/lib/x", containerPath: "/x", options: ["ro"] }],
    intelRdt: { closID: "gold" },
    additionalGids: [0, 5, 9],
  };
  await applyEdits(spec, [edits], findDevice);
  assert.deepEqual(spec.process?.env, ["A=1", "B=0", "C=1"]);
  assert.deepEqual(spec.process?.user.additionalGids, [5, 9]);
  assert.deepEqual(spec.linux?.devices, [
    { path: "/dev/mine", type: "c", major: 1, minor: 3, fileMode: 0o666, uid: 7 },
    { path: "/dev/whole", type: "b", major: 8, minor: 0, uid: 7, gid: 3 },
  ]);
  assert.deepEqual(spec.linux?.resources?.devices, [
    { allow: true, type: "c", major: 1, minor: 3, access: "r" },
    { allow: true, type: "b", major: 8, minor: 0, access: "rwm" },
  ]);
  assert.deepEqual(spec.linux?.netDevices, { eth7: { name: "net0" } });
  assert.deepEqual(spec.hooks, { createContainer: [{ path: "/hook", args: ["hook"] }] });
  assert.deepEqual(spec.mounts, [{ destination: "/x", source: "/lib/x", options: ["ro"] }, { destination: "/a/b" }]);
  assert.deepEqual(spec.linux?.intelRdt, { closID: "gold" });
  await assert.rejects(applyEdits(spec, [{ deviceNodes: [{ path: "/dev/none" }] }], findDevice), {
    message: 'failed to stat CDI host device "/dev/none": no such file or directory',
  });
  await assert.rejects(applyEdits(spec, [{ deviceNodes: [{ path: "/dev/null", type: "b" }] }], findDevice), {
    message: 'CDI device ("/dev/null", "/dev/null"), host type mismatch (b, c)',
  });
});

test("later directories count more, a device that is described twice is none, and a changed file is read again", async (t) => {
  const { write, environment, told } = await openDevices(t);
  const describing = (value: string, name = "one") => ({
    ...document,
    containerEdits: { env: ["COMMON=1"] },
    devices: [{ name, containerEdits: { env: [`${name}=${value}`] } }],
  });
  await write("etc/a.yaml", describing("static"));
  assert.deepEqual(await environment("vendor.com/class=one"), ["COMMON=1", "one=static"]);
  await write("run/a.json", describing("dynamic"));
  assert.deepEqual(await environment("vendor.com/class=one"), ["COMMON=1", "one=dynamic"]);
  await write("run/b.yaml", describing("again"));
  await assert.rejects(environment("vendor.com/class=one", "v/c=none"), {
    message: "CDI device injection failed: unresolvable CDI devices vendor.com/class=one, v/c=none",
  });
  await write("run/b.yaml", describing("other", "two"));
  assert.deepEqual(await environment("vendor.com/class=two", "vendor.com/class=one"), [
    "COMMON=1",
    "two=other",
    "one=dynamic",
  ]);
  assert.deepEqual(told, []);
  await write("etc/broken.yaml", "cdiVersion: [");
  await write("etc/other.txt", "no file of devices");
  assert.deepEqual(await environment("vendor.com/class=one"), ["COMMON=1", "one=dynamic"]);
  assert.equal(told.length, 1);
  assert.match(told[0] ?? "", /^failed to load CDI Spec /);
});

test("numbers are those of YAML 1.1, as modes of files are written", async (t) => {
  const { write, inject } = await openDevices(t);
  await write(
    "etc/a.yaml",
    'cdiVersion: "0.3.0"\nkind: v/c\ndevices:\n- name: d\n  containerEdits:\n    deviceNodes:\n    - {path: /dev/null, fileMode: 0640}\n',
  );
  assert.equal((await inject("v/c=d")).linux?.devices?.[0]?.fileMode, 0o640);
});
