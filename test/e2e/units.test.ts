import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { busyboxImage } from "../kit/image.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { bootMachine, type Machine, whyNoMachine } from "../kit/machine.ts";

const repository = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");
const units = `${repository}/deploy/systemd/fleet`;
const skip = whyNoMachine() ?? false;
const members = ["events", "metadata", "content", "snapshots", "tasks"];
const image = "docker.io/library/busybox:test";

let machine: Machine;
let leaks: LeakSnapshot;

before(async () => {
  if (skip !== false) {
    return;
  }
  leaks = await snapshotLeaks();
  machine = await bootMachine();
  const { tar } = await busyboxImage();
  await machine.shell(`cp ${tar} /root/busybox.tar`);
  await machine.shell(`ln -s ${repository} /opt/flotilla
systemd-sysusers ${repository}/deploy/flotilla.sysusers
rm -f /etc/containerd/config.toml
cp ${units}/* /etc/systemd/system/
systemctl daemon-reload
systemctl start flotilla.target`);
  await serves();
});

/** Waits until clients are answered. */
async function serves(): Promise<void> {
  const wait = "timeout 60 sh -c 'until timeout 2 ctr version >/dev/null 2>&1; do sleep 0.2; done'";
  await machine.shell(`${wait} || { systemctl --failed; journalctl --no-pager --lines 60; exit 1; }`);
}

after(async () => {
  await machine?.[Symbol.asyncDispose]();
  if (leaks !== undefined) {
    await assertNoLeaks(leaks);
  }
});

async function show(unit: string, property: string): Promise<string> {
  return (await machine.shell(`systemctl show --value --property ${property} flotilla-${unit}`)).trim();
}

test("each process runs as its own unit, with its own user, and says that it is ready", { skip }, async () => {
  for (const name of [...members, "gateway"]) {
    assert.equal(await show(`${name}.service`, "ActiveState"), "active", name);
    assert.equal(await show(`${name}.service`, "StatusText"), "serving", name);
    const pid = await show(`${name}.service`, "MainPID");
    const status = await machine.shell(`cat /proc/${pid}/status`);
    const user = (await machine.shell(`stat --format %U /proc/${pid}`)).trim();
    assert.equal(user, ["events", "metadata", "content"].includes(name) ? `flotilla-${name}` : "root", name);
    if (user !== "root") {
      assert.match(status, /^CapBnd:\t0{16}$/m);
      assert.match(status, /^NoNewPrivs:\t1$/m);
      assert.match(status, /^Seccomp:\t2$/m);
    }
  }
  assert.match(
    await machine.shell(`cat /proc/${await show("gateway.service", "MainPID")}/status`),
    /^CapBnd:\t0{8}[0-9a-f]{8}$/m,
  );
});

test("containers run, and live on when every unit is started again", { skip }, async () => {
  const ctr = (line: string): Promise<string> => machine.shell(`ctr ${line}`);
  await ctr("images import /root/busybox.tar");
  assert.equal(await ctr(`run --rm ${image} once echo hello`), "hello");
  await ctr(`run --detach ${image} lasting sleep 1000`);
  const pid = (await ctr("tasks ls"))
    .split("\n")
    .find((line) => line.startsWith("lasting"))
    ?.split(/\s+/)[1];
  await machine.shell("systemctl restart flotilla.target");
  await serves();
  assert.match(await ctr("tasks ls"), new RegExp(`lasting\\s+${pid}\\s+RUNNING`));
  assert.equal(await ctr("tasks exec --exec-id e lasting echo inside"), "inside");
  await ctr("tasks kill --signal KILL lasting");
  await machine.shell("timeout 20 sh -c 'until ctr tasks ls | grep STOPPED; do sleep 0.1; done'");
  await ctr("tasks rm lasting");
  await ctr("containers rm lasting");
});

test("what the configuration disables is not run, and has not failed", { skip }, async () => {
  assert.equal(await show("cri.service", "ActiveState"), "active");
  await machine.shell(`mkdir -p /etc/containerd
echo 'disabled_plugins = ["cri"]' >/etc/containerd/config.toml
systemctl restart flotilla-cri.service`);
  assert.equal(await show("cri.service", "ActiveState"), "inactive");
  assert.equal(await show("cri.service", "Result"), "exec-condition");
  await machine.shell("rm /etc/containerd/config.toml; systemctl restart flotilla-cri.service");
  assert.equal(await show("cri.service", "ActiveState"), "active");
});

test("a process on demand is started by its socket when somebody calls it", { skip }, async () => {
  assert.equal(await show("transfer.service", "ActiveState"), "inactive");
  const call = `curl --silent --unix-socket /run/containerd/containerd.sock -H 'content-type: application/json'
 -H 'containerd-namespace: default' -d '{}' http://localhost/containerd.services.transfer.v1.Transfer/Transfer`;
  const answer = await machine.shell(call.replaceAll("\n", ""));
  assert.match(answer, /type with url .*: not found/, "the process has answered");
  assert.equal(await show("transfer.service", "ActiveState"), "active");
});

test("the gateway's socket stays open while it is started again", { skip }, async () => {
  await machine.shell(`systemctl restart --no-block flotilla-gateway.service
for round in $(seq 20); do ctr version >/dev/null; done`);
});

test("each unit is restarted under load without a failed call", { skip }, async () => {
  const failures = await machine.shell(`work() {
  while [ ! -e /root/stop ]; do
    ctr images ls >/dev/null 2>>/root/failures || echo "images ls: $?" >>/root/failures
    ctr run --rm ${image} load-$1 true 2>>/root/failures || echo "run: $?" >>/root/failures
    ctr leases create >/dev/null 2>>/root/failures || echo "leases create: $?" >>/root/failures
  done
}
: >/root/failures
for worker in 1 2; do work $worker & done
for name in ${[...members, "gateway"].join(" ")}; do
  sleep 1
  systemctl restart flotilla-$name.service
done
sleep 1
touch /root/stop
wait
cat /root/failures`);
  assert.equal(failures, "");
});

test("a process that hangs is killed by the watchdog and started again", { skip }, async () => {
  await machine.shell(`mkdir -p /run/systemd/system/flotilla-content.service.d
printf '[Service]\\nWatchdogSec=2s\\n' >/run/systemd/system/flotilla-content.service.d/short.conf
systemctl daemon-reload
systemctl restart flotilla-content.service`);
  const pid = await show("content.service", "MainPID");
  await machine.shell(`sleep 3; test "$(systemctl show --value --property MainPID flotilla-content.service)" = ${pid}`);
  await machine.shell(`kill -STOP ${pid}
timeout 30 sh -c 'until [ "$(systemctl show --value --property NRestarts flotilla-content.service)" = 1 ]; do sleep 0.2; done'`);
  assert.equal(await machine.shell(`timeout 30 ctr run --rm ${image} again echo hello`), "hello");
});

test("the units are sound, and what needs no root is at most exposed as said", { skip }, async () => {
  const files = readdirSync(units).map((name) => `/etc/systemd/system/${name}`);
  const verified = await machine.run("systemd-analyze", "verify", "--man=no", ...files);
  assert.deepEqual([verified.exitCode, verified.stderr], [0, ""]);
  for (const name of ["content", "events", "metadata", "transfer"]) {
    const text = await machine.shell(`systemd-analyze security flotilla-${name}.service | tail -1`);
    const exposure = Number(/level for .*: ([\d.]+)/.exec(text)?.[1]);
    assert.ok(exposure <= 4, text);
  }
});
