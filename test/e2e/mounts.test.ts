import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { after, before, test } from "node:test";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { execa } from "execa";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { OptionsSchema } from "#gen/containerd/runc/v1/options_pb.ts";
import { Containers } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import { Leases } from "#gen/containerd/services/leases/v1/leases_pb.ts";
import { Mounts } from "#gen/containerd/services/mounts/v1/mounts_pb.ts";
import { Kind, Snapshots } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import { Tasks } from "#gen/containerd/services/tasks/v1/tasks_pb.ts";
import type { MountSchema } from "#gen/containerd/types/mount_pb.ts";
import { makeFifo } from "#linux/fifo.ts";
import { mountAll } from "#linux/mount.ts";
import { mountPointsBelow, unmountAll } from "#linux/unmount.ts";
import { clientHeaders } from "#wire/headers.ts";
import { type Daemon, startFlotilla } from "../kit/daemon.ts";
import { busyboxImage } from "../kit/image.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { uniqueNamespace } from "../kit/namespace.ts";
import { until } from "../kit/processes.ts";
import { makeTemporaryDirectory, type TemporaryDirectory } from "../kit/temporary-directory.ts";

type Mount = MessageInitShape<typeof MountSchema>;

let daemon: Daemon;
let leaks: LeakSnapshot;
let directory: TemporaryDirectory;
const namespace = uniqueNamespace();
const ns = { headers: clientHeaders(namespace) };

before(async () => {
  leaks = await snapshotLeaks();
  directory = await makeTemporaryDirectory("mnt");
  const { tar } = await busyboxImage();
  daemon = await startFlotilla();
  const { exitCode, stderr } = await daemon.ctr("-n", namespace, "images", "import", tar);
  assert.equal(exitCode, 0, stderr);
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await directory?.[Symbol.asyncDispose]();
  await assertNoLeaks(leaks);
});

/** A file with a file system in it that holds the directories given. */
async function makeDisk(name: string, ...directories: string[]): Promise<string> {
  const path = `${directory.path}/${name}`;
  await execa("truncate", ["--size=32M", path]);
  await execa("mkfs.ext4", ["-q", path]);
  const root = `${path}.mnt`;
  await mkdir(root);
  await mountAll([{ type: "ext4", source: path, options: ["loop"] }], root);
  try {
    for (const made of directories) {
      await mkdir(`${root}/${made}`);
    }
  } finally {
    await unmountAll(root);
  }
  return path;
}

/** Puts a container on record whose process runs a script of the shell. */
async function addContainer(id: string, script: string): Promise<void> {
  const namespaces = ["pid", "ipc", "uts", "mount", "network"].map((type) => ({ type }));
  const env = ["PATH=/bin:/usr/bin"];
  const spec = {
    ociVersion: "1.1.0",
    process: { args: ["sh", "-c", script], cwd: "/", env, user: { uid: 0, gid: 0 } },
    root: { path: "rootfs" },
    linux: { namespaces, cgroupsPath: `/${namespace}/${id}` },
    mounts: [{ destination: "/proc", type: "proc", source: "proc" }],
  };
  await createClient(Containers, daemon.transport).create(
    {
      container: {
        id,
        runtime: { name: "io.containerd.runc.v2", options: packOptions() },
        spec: create(AnySchema, {
          typeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Spec",
          value: Buffer.from(JSON.stringify(spec)),
        }),
      },
    },
    ns,
  );
}

function packOptions() {
  return create(AnySchema, {
    typeUrl: "containerd.runc.v1.Options",
    value: toBinary(OptionsSchema, create(OptionsSchema)),
  });
}

/** Runs the task of a container to its end. @returns what it wrote and its exit status. */
async function run(id: string, rootfs: Mount[], whileRunning: () => Promise<void>): Promise<[string, number]> {
  const tasks = createClient(Tasks, daemon.transport);
  const stdout = `${directory.path}/${id}.out`;
  const stderr = `${directory.path}/${id}.err`;
  makeFifo(stdout, 0o600);
  makeFifo(stderr, 0o600);
  const output = Promise.all([execa("cat", [stdout]), execa("cat", [stderr])]);
  await tasks.create({ containerId: id, rootfs, stdout, stderr }, ns);
  const waiting = tasks.wait({ containerId: id }, ns);
  await tasks.start({ containerId: id }, ns);
  await whileRunning();
  const { exitStatus } = await waiting;
  await tasks.delete({ containerId: id }, ns);
  const [out] = await output;
  return [out.stdout, exitStatus];
}

test("containers run on mounts that the daemon carries out, which go with their tasks", async () => {
  const mounts = createClient(Mounts, daemon.transport);
  const disk = await makeDisk("disk.img", "root1", "root2", "work");
  const snapshots = createClient(Snapshots, daemon.transport);
  const { name: parent } = await committedSnapshot();
  const view = (await snapshots.view({ snapshotter: "overlayfs", key: "view", parent }, ns)).mounts;
  const base: Mount[] = [...view, { type: "ext4", source: disk, options: ["loop"] }];
  const overlay = (...options: string[]): Mount => ({ type: "format/overlay", source: "overlay", options });

  await addContainer("m1", "echo -n written > /etc/name; cat /go 2>/dev/null; sleep 1");
  const first = await run(
    "m1",
    [
      ...base,
      overlay("lowerdir={{ mount 0 }}", "upperdir={{ mount 1 }}/root1", "workdir={{ mount 1 }}/work", "index=off"),
    ],
    async () => {
      const { info } = await mounts.info({ name: "m1" }, ns);
      assert.equal(info?.active.length, 2);
      assert.deepEqual(info?.labels, { "containerd.io/gc.bref.container": "m1" });
      assert.match(info?.active[1]?.mountPoint ?? "", /\/io\.containerd\.mount-manager\.v1\.bolt\/t\/\d+\/1$/);
      await daemon.kill9("snapshots");
      assert.equal((await mounts.info({ name: "m1" }, ns)).info?.active.length, 2, "known after a crash");
    },
  );
  assert.deepEqual(first, ["", 0]);
  await assert.rejects(mounts.info({ name: "m1" }, ns), (error) => isFailure(error, ErrorKind.NotFound));

  await addContainer("m2", "cat /etc/name");
  const second = await run(
    "m2",
    [
      ...base,
      overlay(
        "lowerdir={{ mount 1 }}/root1:{{ mount 0 }}",
        "upperdir={{ mount 1 }}/root2",
        "workdir={{ mount 1 }}/work",
        "index=off",
      ),
    ],
    async () => undefined,
  );
  assert.deepEqual(second, ["written", 0]);
  assert.deepEqual(await mountPointsBelow(`${daemon.state}/io.containerd.mount-manager.v1.bolt`), []);
});

test("a task that cannot be created leaves no mounts", async () => {
  await addContainer("failing", "true");
  const rootfs: Mount[] = [
    { type: "tmpfs", source: "tmpfs", options: [] },
    { type: "format/bind", source: "{{ mount 0 }}/absent", options: ["rbind"] },
  ];
  await assert.rejects(
    createClient(Tasks, daemon.transport).create({ containerId: "failing", rootfs }, ns),
    /failed to create shim task/,
  );
  await until(
    async () => (await mountPointsBelow(`${daemon.state}/io.containerd.mount-manager.v1.bolt`)).length === 0,
    () => "mounts are left",
  );
});

test("an activation lives as long as its lease and says so", async () => {
  const mounts = createClient(Mounts, daemon.transport);
  const leases = createClient(Leases, daemon.transport);
  const tmpfs: Mount = { type: "tmpfs", source: "tmpfs", options: ["size=1m"] };
  await leases.create({ id: "holder" }, ns);
  const headers = clientHeaders(namespace, "holder");
  const { info } = await mounts.activate(
    { name: "held", mounts: [tmpfs], temporary: true, labels: { a: "b" } },
    { headers },
  );
  const [system] = info?.system ?? [];
  assert.deepEqual([system?.type, system?.source, system?.options], ["bind", info?.active[0]?.mountPoint, ["rbind"]]);
  const listed: string[] = [];
  for await (const message of mounts.list({ filters: ["anything"] }, ns)) {
    listed.push(message.info?.name ?? "");
  }
  assert.deepEqual(listed, ["held"]);
  await assert.rejects(mounts.activate({ name: "held", mounts: [tmpfs], temporary: true }, ns), {
    message: 'mount "held": already exists',
  });
  await assert.rejects(mounts.activate({ name: "plain", mounts: [tmpfs] }, ns), (error) =>
    isFailure(error, ErrorKind.NotImplemented),
  );
  await assert.rejects(mounts.update({ info: { name: "held" } }, ns), (error) =>
    isFailure(error, ErrorKind.NotImplemented),
  );
  await assert.rejects(mounts.deactivate({ name: "absent" }, ns), (error) => isFailure(error, ErrorKind.NotFound));

  await leases.create({ id: "now" }, ns);
  await leases.delete({ id: "now", sync: true }, ns);
  assert.equal((await mounts.info({ name: "held" }, ns)).info?.name, "held");
  await leases.delete({ id: "holder", sync: true }, ns);
  await assert.rejects(mounts.info({ name: "held" }, ns), (error) => isFailure(error, ErrorKind.NotFound));
  assert.deepEqual(readdirSync(`${daemon.state}/io.containerd.mount-manager.v1.bolt/t`), []);
});

test("a container on a snapshot with a limit meets it, and the daemon's disk does not", async () => {
  const snapshots = createClient(Snapshots, daemon.transport);
  const { name: parent } = await committedSnapshot();
  const labels = { "containerd.io/snapshot/flotilla.quota": "16MiB", "containerd.io/gc.root": "test" };
  const { mounts } = await snapshots.prepare({ snapshotter: "overlayfs", key: "limited", parent, labels }, ns);
  await addContainer("limited", "head -c 20000000 /dev/zero > /large 2>/dev/null || { rm /large; echo -n full; }");
  assert.deepEqual(await run("limited", mounts, async () => undefined), ["full", 0]);
  await snapshots.commit({ snapshotter: "overlayfs", key: "limited", name: "written" }, ns);
  assert.ok((await snapshots.usage({ snapshotter: "overlayfs", key: "written" }, ns)).size < 1n << 20n);
});

/** The topmost snapshot of the image. */
async function committedSnapshot(): Promise<{ readonly name: string }> {
  const image = "docker.io/library/busybox:test";
  await daemon.ctr("-n", namespace, "run", "--rm", image, "unpacked", "true");
  const names: string[] = [];
  for await (const { info } of createClient(Snapshots, daemon.transport).list({ snapshotter: "overlayfs" }, ns)) {
    names.push(...info.filter(({ kind }) => kind === Kind.COMMITTED).map(({ name }) => name));
  }
  return { name: names[0] ?? "" };
}
