import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { busyboxImage } from "../kit/image.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { bootMachine, type Machine, whyNoMachine } from "../kit/machine.ts";
import { makeTemporaryDirectory, type TemporaryDirectory } from "../kit/temporary-directory.ts";

const builder = fileURLToPath(new URL("../../deploy/debian/build.sh", import.meta.url));
const skip = existsSync("/usr/bin/dpkg-deb") ? (whyNoMachine() ?? false) : "this is no Debian";
const image = "docker.io/library/busybox:test";

let machine: Machine;
let directory: TemporaryDirectory;
let leaks: LeakSnapshot;
const packages: string[] = [];
/** Process id of a container within the machine. */
let container = "";

before(async () => {
  if (skip !== false) {
    return;
  }
  leaks = await snapshotLeaks();
  directory = await makeTemporaryDirectory("deb");
  for (const version of ["1.0.0", "1.0.1"]) {
    packages.push((await execa(builder, [directory.path, version])).stdout);
  }
  const { tar } = await busyboxImage();
  machine = await bootMachine();
  await machine.shell(`cp ${tar} /root/busybox.tar; rm -f /etc/containerd/config.toml`);
});

after(async () => {
  await machine?.[Symbol.asyncDispose]();
  await directory?.[Symbol.asyncDispose]();
  if (leaks !== undefined) {
    await assertNoLeaks(leaks);
  }
});

/** Waits until clients are answered. */
async function serves(): Promise<void> {
  const wait = "timeout 60 sh -c 'until timeout 2 ctr version >/dev/null 2>&1; do sleep 0.2; done'";
  await machine.shell(`${wait} || { systemctl --failed; journalctl --no-pager --lines 60; exit 1; }`);
}

async function serverVersion(): Promise<string> {
  return await machine.shell("ctr version | sed -n '/Server/,$s/.*Version: *//p'");
}

test("the package installs a daemon that runs, each process as its own user", { skip }, async () => {
  await machine.shell(`dpkg --install ${packages[0]}`);
  await serves();
  assert.match(await serverVersion(), /\+flotilla\.1\.0\.0$/);
  const { processes } = JSON.parse(await machine.shell("flotilla status --json"));
  assert.deepEqual(
    processes
      .filter(({ health }: { health: string }) => health !== "serving")
      .map(({ name }: { name: string }) => name),
    ["transfer"],
  );
  assert.match(await machine.shell("ps -e -o user:20,args"), /^flotilla-content +flotilla: content$/m);
  assert.match(
    await machine.shell("zcat /usr/share/man/man8/flotilla.8.gz"),
    /\.SS status\nShow the processes of the daemon/,
  );
});

test("an upgrade leaves containers running, and the new version takes them over", { skip }, async () => {
  await machine.shell("ctr images import /root/busybox.tar");
  await machine.shell(`ctr run --detach ${image} lasting sleep 1000`);
  container = (await machine.shell("ctr tasks ls | awk '/lasting/ { print $2 }'")).trim();
  await machine.shell(`dpkg --install ${packages[1]}`);
  await serves();
  assert.match(await serverVersion(), /\+flotilla\.1\.0\.1$/);
  assert.match(await machine.shell("ctr tasks ls"), new RegExp(`lasting +${container} +RUNNING`));
  assert.equal(await machine.shell("ctr tasks exec --exec-id e lasting echo inside"), "inside");
  assert.equal(await machine.shell(`ctr run --rm ${image} once echo hello`), "hello");
  assert.equal(
    (await machine.shell("ls /usr/lib/flotilla/.bundle | grep -c '^1'")).trim(),
    "1",
    "old bundles are gone",
  );
});

test("a removal ends the daemon and no container", { skip }, async () => {
  await machine.shell("dpkg --remove flotilla");
  assert.equal(await machine.shell("ps -e -o args | grep '^flotilla: ' || true"), "");
  assert.equal(await machine.shell(`ps -o args= ${container}`), "sleep 1000");
  assert.equal(await machine.shell("ls /usr/lib/flotilla /lib/systemd/system/flotilla* 2>/dev/null || true"), "");
  await machine.shell("dpkg --purge flotilla");
  assert.equal(await machine.shell("systemctl list-units --no-legend 'flotilla*' || true"), "");
  await machine.shell(`kill -9 ${container}; pkill containerd-shim || true`);
});
