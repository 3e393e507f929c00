import assert from "node:assert/strict";
import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import test from "node:test";
import { create } from "@bufbuild/protobuf";
import { MountSchema } from "#gen/containerd/types/mount_pb.ts";
import { ContainerConfigSchema, ContainerState, Signal } from "#gen/runtime/v1/api_pb.ts";
import { parseMountInfo } from "#linux/mount-info.ts";
import { Container, unknownStatus } from "../store/container.ts";
import { IdTable } from "../store/id-table.ts";
import type { Pod } from "../store/pod.ts";
import { recordLabels } from "../store/record-labels.ts";
import { imageVolumes, mountBelow } from "./host-mounts.ts";
import { readImageUsers } from "./image-users.ts";
import { selectContainers } from "./list.ts";
import { capabilitiesOf } from "./machine.ts";
import { containerStatus } from "./status.ts";

test("labels of an image that would be taken for ours, or are too large, are left out", () => {
  const labels = recordLabels(
    { own: "1", same: "mine" },
    { same: "image", other: "2", "containerd.io/x": "3", "io.cri-containerd.kind": "sandbox", large: "x".repeat(5000) },
    "container",
  );
  assert.deepEqual(labels, { own: "1", same: "mine", other: "2", "io.cri-containerd.kind": "container" });
});

test("the mount below a path is the innermost, and the last on its place", () => {
  const table = parseMountInfo(
    [
      "1 0 0:1 / / rw shared:1 - ext4 /dev/a rw",
      "2 1 0:2 / /data rw - tmpfs t rw",
      "3 1 0:3 / /data rw master:5 - tmpfs t rw",
      "4 1 0:4 / /database rw - tmpfs t rw",
    ].join("\n"),
  );
  assert.deepEqual(mountBelow("/data/x", table), { mountPoint: "/data", optionalFields: ["master:5"] });
  assert.deepEqual(mountBelow("/other", table), { mountPoint: "/", optionalFields: ["shared:1"] });
  assert.equal(mountBelow("/x", []), undefined);
});

test("volumes of an image are directories of the container, where it mounts nothing else", () => {
  const config = create(ContainerConfigSchema, { mounts: [{ containerPath: "/taken/" }] });
  const volumes = imageVolumes(["/taken", "relative", "/data"], config, { directory: "/c", newId: () => "id" });
  assert.deepEqual(
    volumes.map(({ directory, mount }) => [directory, mount.containerPath]),
    [
      ["/c/volumes/id", "/relative"],
      ["/c/volumes/id", "/data"],
    ],
  );
});

test("capabilities are known by their numbers", () => {
  assert.deepEqual(capabilitiesOf("CapInh:\t0\nCapEff:\t0000010000200001\n"), [
    "CAP_CHOWN",
    "CAP_SYS_ADMIN",
    "CAP_CHECKPOINT_RESTORE",
  ]);
});

const overlay = (...layers: string[]) => [
  create(MountSchema, {
    type: "overlay",
    source: "overlay",
    options: [`upperdir=${layers[0]}`, `lowerdir=${layers.slice(1).join(":")}`],
  }),
];

test("users are read from the uppermost layer that has them", async () => {
  const directory = await mkdtemp(`${tmpdir()}/flotilla-users-`);
  try {
    const [upper, middle, lower] = ["upper", "middle", "lower"].map((name) => `${directory}/${name}`);
    assert.ok(upper !== undefined && middle !== undefined && lower !== undefined);
    await mkdir(upper);
    await mkdir(`${middle}/etc`, { recursive: true });
    await mkdir(`${lower}/etc`, { recursive: true });
    await writeFile(`${middle}/etc/passwd`, "one:x:1:1:::\n");
    await writeFile(`${lower}/etc/passwd`, "two:x:2:2:::\n");
    await writeFile(`${lower}/etc/group`, "g:x:9:one\n");
    const read = () => readImageUsers(overlay(upper, middle, lower), `${directory}/tmp`);
    assert.deepEqual(await read(), {
      users: [{ name: "one", uid: 1, gid: 1 }],
      groups: [{ name: "g", gid: 9, members: ["one"] }],
    });
    const bind = create(MountSchema, { type: "bind", source: upper });
    assert.deepEqual(await readImageUsers([bind], `${directory}/tmp`), { users: undefined, groups: undefined });
    await writeFile(`${middle}/etc/passwd`, "x".repeat(1024 * 1024 + 1));
    await assert.rejects(read(), /larger than 1048576 bytes/);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

test("links in an image lead nowhere out of it", {
  skip: process.getuid?.() === 0 ? false : "mounting needs root",
}, async () => {
  const directory = await mkdtemp(`${tmpdir()}/flotilla-users-`);
  try {
    await mkdir(`${directory}/root/etc`, { recursive: true });
    await mkdir(`${directory}/root/other`);
    await symlink("/../../../../../other/passwd", `${directory}/root/etc/passwd`);
    await symlink("/etc/shadow-of-nobody", `${directory}/root/etc/group`);
    await writeFile(`${directory}/root/other/passwd`, "inside:x:5:5:::\n");
    await chmod(directory, 0o700);
    const mount = create(MountSchema, { type: "bind", source: `${directory}/root`, options: ["rbind", "ro"] });
    const { users, groups } = await readImageUsers([mount], `${directory}/tmp`);
    assert.deepEqual(users, [{ name: "inside", uid: 5, gid: 5 }]);
    assert.equal(groups, undefined);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

function containerOf(id: string, podId: string, labels: Record<string, string>, startedAtNs = 0n): Container {
  const config = create(ContainerConfigSchema, { labels, metadata: { name: id }, stopSignal: Signal.RUNTIME_DEFAULT });
  const metadata = {
    id,
    name: id,
    podId,
    config,
    imageRef: "sha256:a",
    logPath: "",
    stopSignal: "SIGQUIT",
    processLabel: "",
  };
  const user = { uid: 5, gid: 6, additionalGids: [6, 7] };
  const facts = {
    metadata,
    directory: "",
    stateDirectory: "",
    runtime: { name: "", options: undefined },
    snapshotter: "",
    user,
    rootMounts: [],
  };
  return new Container(facts, {
    ...unknownStatus,
    unknown: false,
    exitCode: 0,
    reason: "",
    createdAtNs: 1n,
    startedAtNs,
  });
}

test("containers are found by id, pod, state and labels, ids cut short", () => {
  const containers = new IdTable<Container>();
  const pods = new IdTable<Pod>();
  for (const container of [
    containerOf("abc", "p1", { a: "1" }),
    containerOf("abd", "p1", { a: "1", b: "2" }, 2n),
    containerOf("xyz", "p2", {}),
  ]) {
    containers.add(container);
  }
  const find = (filter: Partial<Parameters<typeof selectContainers>[1]>) =>
    selectContainers({ containers, pods }, { id: "", podSandboxId: "", labelSelector: {}, ...filter }).map(
      ({ id }) => id,
    );
  assert.deepEqual(selectContainers({ containers, pods }, undefined).length, 3);
  assert.deepEqual(find({}), ["abc", "abd", "xyz"]);
  assert.deepEqual(find({ id: "x" }), ["xyz"]);
  assert.deepEqual(find({ id: "ab" }), [], "what may mean several means none");
  assert.deepEqual(find({ podSandboxId: "p1", labelSelector: { b: "2" } }), ["abd"]);
  const running = create(ContainerConfigSchema, {}) && { state: ContainerState.CONTAINER_RUNNING };
  assert.deepEqual(find({ state: running as never }), ["abd"]);
});

test("a status tells what the kubelet asks for", () => {
  const container = containerOf("abc", "p1", { a: "1" }, 2n);
  const images = {
    get: () => ({ references: ["docker.io/library/a:1", `docker.io/library/a@sha256:${"0".repeat(64)}`] }) as never,
  };
  const status = containerStatus(container, images);
  assert.equal(status.state, ContainerState.CONTAINER_RUNNING);
  assert.equal(status.image?.image, "docker.io/library/a:1");
  assert.equal(status.imageRef, `docker.io/library/a@sha256:${"0".repeat(64)}`);
  assert.equal(status.imageId, "sha256:a");
  assert.equal(status.stopSignal, Signal.SIGQUIT);
  assert.deepEqual(status.user?.linux?.supplementalGroups, [6n, 7n]);
  assert.equal(status.startedAt, 2n);
});
