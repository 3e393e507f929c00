import assert from "node:assert/strict";
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { createClient } from "@connectrpc/connect";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { Introspection } from "#gen/containerd/services/introspection/v1/introspection_pb.ts";
import { Snapshots } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import { clientHeaders } from "#wire/headers.ts";
import { type Daemon, startFlotilla } from "../kit/daemon.ts";
import { busyboxImage } from "../kit/image.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { killProcesses, listProcesses, until } from "../kit/processes.ts";

const launcher = fileURLToPath(new URL("../../deploy/flotilla", import.meta.url));
const waitMsMax = 60_000;

let daemon: Daemon;
let leaks: LeakSnapshot;

/** Manifests that are refused, and what is said of them. */
const hostile: readonly (readonly [name: string, manifest: string, reason: RegExp])[] = [
  ["syntax", "type = ", /./],
  ["unknown-key", 'type = "diff"\npath = "/bin/true"\nuser = "root"', /nobody knows user/],
  ["relative", 'type = "diff"\npath = "bin/true"', /path must be the whole path/],
  ["climbing", 'type = "diff"\npath = "/usr/../bin/true"', /path must be the whole path/],
  ["absent", 'type = "diff"\npath = "/nowhere/true"', /program \/nowhere\/true: not found/],
  ["not-a-program", 'type = "diff"\npath = "PLUGINS/README"', /cannot be run/],
  ["odd-type", 'type = "magic"\npath = "/bin/true"', /unknown proxy plugin type/],
  ["overlayfs", 'type = "snapshot"\npath = "/bin/true"', /already registered/],
  ["odd-env", 'type = "diff"\npath = "/bin/true"\nenv = ["1=2"]', /env must hold NAME=value/],
  ["big", `type = "diff"\npath = "/bin/true"\n#${"x".repeat(70_000)}`, /more than 65536 bytes/],
  ["many", `type = "diff"\npath = "/bin/true"\nargs = [${'"a",'.repeat(100)}]`, /more than 64 items/],
  ["-", 'type = "diff"\npath = "/bin/true"', /must match/],
];

before(async () => {
  leaks = await snapshotLeaks();
  daemon = await startFlotilla();
  await daemon.stop();
  const plugins = `${daemon.root}/plugins`;
  mkdirSync(plugins, { mode: 0o755 });
  writeFileSync(
    `${plugins}/ours.toml`,
    `type = "snapshot"
path = "${launcher}"
args = ["serve", "snapshots", "--address", "{socket}", "--root", "{root}"]
env = ["EXAMPLE=1"]
capabilities = ["rebase"]
[exports]
  more = "yes"
`,
  );
  writeFileSync(`${plugins}/dying.toml`, 'type = "diff"\npath = "/bin/false"\n');
  for (const [name, manifest] of hostile) {
    writeFileSync(`${plugins}/${name}.toml`, manifest.replace("PLUGINS", plugins));
  }
  writeFileSync(`${plugins}/open.toml`, 'type = "diff"\npath = "/bin/true"\n');
  chmodSync(`${plugins}/open.toml`, 0o666);
  symlinkSync("ours.toml", `${plugins}/link.toml`);
  mkdirSync(`${plugins}/directory.toml`);
  writeFileSync(`${plugins}/README`, "passed over");
  await daemon.start();
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await assertNoLeaks(leaks);
});

async function plugins() {
  return (await createClient(Introspection, daemon.transport).plugins({})).plugins;
}

function pidOfOurs(): number | undefined {
  const gateway = daemon.pidOf("gateway");
  return listProcesses().find(
    ({ parentPid, command }) =>
      parentPid === gateway &&
      (command.includes("serve snapshots") || command.includes(`${daemon.state}/plugins/ours.sock`)),
  )?.pid;
}

test("a manifest makes a plugin, whose program is run on the socket that it is handed", async () => {
  const ours = (await plugins()).find(({ id }) => id === "ours");
  assert.equal(ours?.type, "io.containerd.snapshotter.v1");
  assert.deepEqual(ours.exports, { more: "yes", address: `${daemon.state}/plugins/ours.sock` });
  assert.deepEqual(ours.capabilities, ["rebase"]);
  await until(
    () => /a plugin of the plugin directory serves/.test(daemon.log()),
    () => `it does not serve:\n${daemon.log()}`,
    waitMsMax,
  );
  const image = await busyboxImage();
  const imported = await daemon.ctr("images", "import", "--snapshotter", "ours", image.tar);
  assert.equal(imported.exitCode, 0, imported.stderr);
  const run = await daemon.ctr("run", "--rm", "--snapshotter", "ours", image.name, "c1", "echo", "hello");
  assert.equal(run.stdout, "hello\n", run.stderr);
});

test("its program is started again when it dies, and its records are there still", async () => {
  const before = pidOfOurs() ?? assert.fail("it does not run");
  const snapshots = createClient(Snapshots, daemon.transport);
  const headers = clientHeaders(daemon.namespace);
  const labels = { "containerd.io/gc.root": "now" };
  await snapshots.prepare({ snapshotter: "ours", key: "kept", labels }, { headers });
  await killProcesses([before]);
  await until(
    async () => {
      try {
        await snapshots.mounts({ snapshotter: "ours", key: "kept" }, { headers });
        return true;
      } catch (error) {
        assert.ok(isFailure(error, ErrorKind.Unavailable), String(error));
        return false;
      }
    },
    () => `it does not come back:\n${daemon.log()}`,
    waitMsMax,
  );
  assert.notEqual(pidOfOurs(), before);
});

test("hostile manifests are refused with their reasons, and the daemon serves", async () => {
  const shown = (await plugins()).filter(({ type }) => type === "io.flotilla.plugin.v1");
  const reasons = new Map(shown.map(({ id, initErr }) => [id, initErr?.message ?? ""]));
  for (const [name, , reason] of hostile) {
    assert.match(reasons.get(name) ?? assert.fail(`${name} is not refused`), reason);
  }
  assert.match(reasons.get("open") ?? "", /can be written by others \(mode 666\)/);
  assert.match(reasons.get("link") ?? "", /not a link/);
  assert.match(reasons.get("directory") ?? "", /of another kind/);
  assert.equal(reasons.size, hostile.length + 3);
  assert.match((await daemon.ctr("plugins", "ls")).stdout, /io\.flotilla\.plugin\.v1 +open +- +error/);
  assert.match(daemon.log(), /a plugin does not come up, starting it again/);
});

test("a directory that others can write is refused as a whole, and programs end with the daemon", async () => {
  const pid = pidOfOurs();
  assert.ok(pid !== undefined);
  await daemon.stop();
  assert.equal(pidOfOurs(), undefined);
  chmodSync(`${daemon.root}/plugins`, 0o777);
  await daemon.start();
  const all = await plugins();
  assert.equal(
    all.find(({ id }) => id === "ours"),
    undefined,
  );
  const refused = all.filter(({ type }) => type === "io.flotilla.plugin.v1");
  assert.deepEqual(
    refused.map(({ id }) => id),
    ["plugins"],
  );
  assert.match(refused[0]?.initErr?.message ?? "", /the directory can be written by others/);
});
