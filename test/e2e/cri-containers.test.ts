import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { Containers } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import {
  type ContainerConfigSchema,
  ContainerState,
  type LinuxContainerSecurityContextSchema,
  NamespaceMode,
  PodSandboxState,
  SecurityProfile_ProfileType as ProfileType,
  Signal,
  SupplementalGroupsPolicy,
} from "#gen/runtime/v1/api_pb.ts";
import { readMountInfo } from "#linux/mount-info.ts";
import { clientHeaders } from "#wire/headers.ts";
import { CriRig, cniDirectory, nothingLeft, type PodConfig, podConfig } from "../kit/cri-rig.ts";
import { busyboxImage } from "../kit/image.ts";
import { listProcesses, sendSignal, until } from "../kit/processes.ts";
import { makeTemporaryDirectory, type TemporaryDirectory } from "../kit/temporary-directory.ts";

/** What the kubelet does with containers, in pods that have the network of the machine unless a test is about it. */

type ContainerConfig = Omit<MessageInitShape<typeof ContainerConfigSchema>, "$typeName" | "$unknown">;
type SecurityContext = Omit<MessageInitShape<typeof LinuxContainerSecurityContextSchema>, "$typeName" | "$unknown">;

const skip = existsSync(`${cniDirectory}/loopback`)
  ? false
  : "pods need the programs of CNI (containernetworking-plugins)";
const sleep = ["sh", "-c", "sleep 1000 & trap exit TERM; wait"];

let classes: TemporaryDirectory;
let rig: CriRig;
let logs: string;

before(async () => {
  if (skip === false) {
    classes = await makeTemporaryDirectory("classes");
    const file = `${classes.path}/block-io.yaml`;
    await writeFile(file, 'Classes: { slow: [{ Devices: ["/dev/loop0"], ThrottleReadBps: "10M" }] }');
    rig = await CriRig.start({
      runtime: `[plugins."io.containerd.service.v1.tasks-service"]\n  blockio_config_file = "${file}"`,
    });
    logs = `${rig.directory}/logs`;
    await mkdir(logs);
  }
});
after(async () => {
  await rig?.[Symbol.asyncDispose]();
  await classes?.[Symbol.asyncDispose]();
});

interface RunningPod extends AsyncDisposable {
  readonly id: string;
  readonly config: PodConfig;
  create(config?: ContainerConfig): Promise<string>;
  start(config?: ContainerConfig): Promise<string>;
}

let containerNumber = 0;

async function runPod(more: PodConfig = {}): Promise<RunningPod> {
  const network = { namespaceOptions: { network: NamespaceMode.NODE } };
  const config = podConfig({ logDirectory: logs, hostname: "", linux: { securityContext: network }, ...more });
  const { podSandboxId: id } = await rig.runtime.runPodSandbox({ config });
  const create = async (own: ContainerConfig = {}): Promise<string> => {
    containerNumber += 1;
    const name = `c${containerNumber}`;
    const { containerId } = await rig.runtime.createContainer({
      podSandboxId: id,
      sandboxConfig: config,
      config: { metadata: { name }, image: { image: "busybox:test" }, command: sleep, logPath: `${name}.log`, ...own },
    });
    return containerId;
  };
  return {
    id,
    config,
    create,
    start: async (own) => {
      const containerId = await create(own);
      await rig.runtime.startContainer({ containerId });
      return containerId;
    },
    [Symbol.asyncDispose]: async () => {
      await rig.runtime.stopPodSandbox({ podSandboxId: id });
      await rig.runtime.removePodSandbox({ podSandboxId: id });
    },
  };
}

async function statusOf(containerId: string) {
  const { status } = await rig.runtime.containerStatus({ containerId });
  assert.ok(status);
  return status;
}

async function ended(containerId: string) {
  await until(
    async () => (await statusOf(containerId)).state === ContainerState.CONTAINER_EXITED,
    () => `container ${containerId} runs on`,
    30_000,
  );
  return await statusOf(containerId);
}

async function run(containerId: string, script: string): Promise<string> {
  const { stdout, stderr, exitCode } = await rig.runtime.execSync({
    containerId,
    cmd: ["sh", "-c", script],
    timeout: 30n,
  });
  assert.equal(exitCode, 0, Buffer.from(stderr).toString("utf8"));
  return Buffer.from(stdout).toString("utf8").trim();
}

test("a container lives from its creation to its removal, and leaves nothing", { skip }, async () => {
  {
    await using pod = await runPod();
    const id = await pod.create({
      command: ["sh", "-c", "echo out; echo err >&2; exit 3"],
      labels: { app: "x" },
      annotations: { note: "y" },
    });
    const created = await statusOf(id);
    assert.equal(created.state, ContainerState.CONTAINER_CREATED);
    assert.ok(created.createdAt > 0n);
    assert.deepEqual([created.startedAt, created.finishedAt], [0n, 0n]);
    const call = { headers: clientHeaders("k8s.io") };
    const { container } = await createClient(Containers, rig.daemon.transport).get({ id }, call);
    assert.equal(container?.labels["io.cri-containerd.kind"], "container");
    assert.equal(container?.labels["app"], "x");
    assert.equal(container?.sandbox, pod.id);
    assert.equal(
      container?.extensions["io.cri-containerd.container.metadata"]?.typeUrl,
      "github.com/containerd/cri/pkg/store/container/Metadata",
    );
    await rig.runtime.startContainer({ containerId: id.slice(0, 16) });
    const status = await ended(id);
    assert.deepEqual([status.exitCode, status.reason], [3, "Error"]);
    assert.ok(status.finishedAt >= status.startedAt && status.startedAt >= status.createdAt);
    assert.equal(status.image?.image, "docker.io/library/busybox:test");
    assert.match(status.imageId, /^sha256:/);
    assert.deepEqual([status.labels["app"], status.annotations["note"]], ["x", "y"]);
    const lines = (await readFile(status.logPath, "utf8")).trim().split("\n");
    assert.deepEqual(lines.map((line) => line.split(" ").slice(1).join(" ")).sort(), ["stderr F err", "stdout F out"]);
    const { info } = await rig.runtime.containerStatus({ containerId: id, verbose: true });
    const verbose = JSON.parse(info["info"] ?? "{}") as { sandboxID: string; runtimeType: string; snapshotKey: string };
    assert.deepEqual(
      [verbose.sandboxID, verbose.runtimeType, verbose.snapshotKey],
      [pod.id, "io.containerd.runc.v2", id],
    );
    await rig.runtime.removeContainer({ containerId: id });
    await rig.runtime.removeContainer({ containerId: id });
    await assert.rejects(statusOf(id), (error) => isFailure(error, ErrorKind.NotFound));
  }
  assert.deepEqual(await rig.leftovers(), nothingLeft);
  assert.deepEqual(await readdir(`${rig.daemon.root}/io.containerd.grpc.v1.cri/containers`), []);
  assert.deepEqual(await readdir(`${rig.daemon.state}/io.containerd.grpc.v1.cri/containers`), []);
});

test("what can't be is refused, and leaves nothing", { skip }, async () => {
  await using pod = await runPod();
  const refuses = (config: ContainerConfig, message: RegExp) =>
    assert.rejects(pod.create(config), (error) => isFailure(error) && message.test(error.message));
  await refuses({ image: { image: "nothing:1" } }, /^failed to resolve image "nothing:1": not found/);
  await refuses(
    { image: { image: "busybox:test" }, linux: { securityContext: { privileged: true } } },
    /no privileged container allowed in sandbox/,
  );
  await refuses({ linux: { securityContext: { runAsUsername: "mallory" } } }, /no users found/);
  await refuses(
    { linux: { securityContext: { runAsGroup: { value: 5n } } } },
    /user group "5" is specified without user/,
  );
  await refuses(
    { linux: { securityContext: { seccomp: { profileType: ProfileType.Localhost, localhostRef: "/no/such" } } } },
    /cannot load seccomp profile "\/no\/such"/,
  );
  await refuses(
    { CDIDevices: [{ name: "vendor/class=device" }] },
    /^failed to create containerd container: CDI device injection failed: unresolvable CDI devices vendor\/class=device$/,
  );
  const id = await pod.create({ metadata: { name: "taken" } });
  await refuses({ metadata: { name: "taken" } }, /^failed to reserve container name "taken_/);
  const missing = await pod.create({ command: ["/no/such/program"] });
  await assert.rejects(rig.runtime.startContainer({ containerId: missing }), /no such file or directory/);
  const failed = await statusOf(missing);
  assert.deepEqual(
    [failed.state, failed.exitCode, failed.reason],
    [ContainerState.CONTAINER_EXITED, 128, "StartError"],
  );
  await assert.rejects(rig.runtime.startContainer({ containerId: missing }), /container is in CONTAINER_EXITED state/);
  const { containers } = await rig.runtime.listContainers({ filter: { podSandboxId: pod.id.slice(0, 20) } });
  assert.deepEqual(containers.map((container) => container.id).sort(), [id, missing].sort());
  assert.deepEqual(
    (await readdir(`${rig.daemon.root}/io.containerd.grpc.v1.cri/containers`)).sort(),
    [id, missing].sort(),
  );
});

test("a container is stopped by its signal, in its time, or by force", { skip }, async () => {
  await using pod = await runPod();
  const stop = (containerId: string, timeout: bigint) => rig.runtime.stopContainer({ containerId, timeout });
  const start = async (config: ContainerConfig): Promise<string> => {
    const containerId = await pod.start(config);
    const look = { containerId, cmd: ["test", "-e", "/ready"], timeout: 30n };
    await until(
      async () => (await rig.runtime.execSync(look)).exitCode === 0,
      () => "the container is not ready for signals",
      20_000,
    );
    return containerId;
  };
  const polite = await start({
    command: ["sh", "-c", "trap 'exit 7' TERM; touch /ready; while :; do sleep 0.1; done"],
  });
  await stop(polite, 20n);
  assert.equal((await statusOf(polite)).exitCode, 7);
  const own = await start({
    command: ["sh", "-c", "trap 'exit 8' USR1; touch /ready; while :; do sleep 0.1; done"],
    stopSignal: Signal.SIGUSR1,
  });
  assert.equal((await statusOf(own)).stopSignal, Signal.SIGUSR1);
  await stop(own, 20n);
  assert.equal((await statusOf(own)).exitCode, 8);
  const deaf = await start({ command: ["sh", "-c", "trap '' TERM; touch /ready; while :; do sleep 0.1; done"] });
  await stop(deaf, 1n);
  assert.equal((await statusOf(deaf)).exitCode, 137);
  const forced = await pod.start();
  await stop(forced, 0n);
  assert.equal((await statusOf(forced)).exitCode, 137);
  await stop(forced, 0n);
  await stop("0123456789abcdef", 0n);
  const removed = await pod.start();
  await rig.runtime.removeContainer({ containerId: removed });
  await assert.rejects(statusOf(removed), (error) => isFailure(error, ErrorKind.NotFound));
});

test("a process is who and what its security context says", { skip }, async () => {
  await using pod = await runPod();
  // Its own, so that process 1 is the container's and not the pod's.
  const namespaceOptions = { pid: NamespaceMode.CONTAINER };
  const inside = async (securityContext: SecurityContext, script: string): Promise<string> =>
    run(await pod.start({ linux: { securityContext: { namespaceOptions, ...securityContext } } }), script);
  const line = (name: string): string => `grep ${name}: /proc/1/status | cut -f2`;
  assert.equal(await inside({}, "id -u; id -g"), "0\n0");
  const user = { runAsUser: { value: 1234n }, runAsGroup: { value: 55n }, supplementalGroups: [77n] };
  assert.equal(await inside(user, "id -u; id -g; id -G"), "1234\n55\n55 77");
  assert.equal(await inside({ ...user, supplementalGroupsPolicy: SupplementalGroupsPolicy.Strict }, "id -G"), "55 77");
  assert.equal(await inside({}, line("CapEff")), "00000000a80425fb");
  assert.equal(
    await inside({ capabilities: { addCapabilities: ["net_admin"], dropCapabilities: ["ALL"] } }, line("CapEff")),
    "0000000000001000",
  );
  assert.equal(await inside({ capabilities: { dropCapabilities: ["CHOWN"] } }, line("CapBnd")), "00000000a80425fa");
  assert.equal(await inside({}, line("NoNewPrivs")), "0");
  assert.equal(await inside({ noNewPrivs: true }, line("NoNewPrivs")), "1");
  assert.equal(await inside({}, line("Seccomp")), "0");
  assert.equal(await inside({ seccomp: { profileType: ProfileType.RuntimeDefault } }, line("Seccomp")), "2");
  assert.equal(
    await inside({ readonlyRootfs: true }, "touch /x 2>/dev/null && echo written || echo refused"),
    "refused",
  );
  assert.equal(await inside({ maskedPaths: ["/proc/version"] }, "wc -c < /proc/version"), "0");
  assert.equal(
    await inside(
      { readonlyPaths: ["/proc/sys"] },
      "echo x > /proc/sys/kernel/domainname && echo written || echo refused",
    ),
    "refused",
  );
  assert.equal(
    await inside({ namespaceOptions: { pid: NamespaceMode.CONTAINER } }, "echo $$ > /dev/null; cat /proc/1/comm"),
    "sh",
  );
});

test("a localhost profile filters, and a privileged container is held back by nothing", { skip }, async () => {
  const securityContext = { privileged: true, namespaceOptions: { network: NamespaceMode.NODE } };
  await using pod = await runPod({ linux: { securityContext } });
  const profile = `${rig.directory}/profile.json`;
  const rule = { names: ["mkdir", "mkdirat"], action: "SCMP_ACT_ERRNO" };
  await writeFile(profile, JSON.stringify({ defaultAction: "SCMP_ACT_ALLOW", syscalls: [rule] }));
  const seccomp = { profileType: ProfileType.Localhost, localhostRef: profile };
  const filtered = await pod.start({ linux: { securityContext: { seccomp } } });
  assert.equal(await run(filtered, "mkdir /x 2>/dev/null && echo made || echo refused"), "refused");
  const alone = { pid: NamespaceMode.CONTAINER };
  const free = await pod.start({ linux: { securityContext: { privileged: true, seccomp, namespaceOptions: alone } } });
  assert.equal(await run(free, "mkdir /x && echo made"), "made");
  assert.equal(await run(free, "grep Seccomp: /proc/1/status | cut -f2"), "0");
  assert.equal(await run(free, "grep ' /sys ' /proc/mounts | cut -d' ' -f4 | cut -d, -f1"), "rw");
});

test("mounts and devices are there as they are wished for", { skip }, async () => {
  await using pod = await runPod();
  const host = `${rig.directory}/host`;
  await mkdir(host);
  await writeFile(`${host}/file`, "from outside");
  const id = await pod.start({
    mounts: [
      { hostPath: host, containerPath: "/rw" },
      { hostPath: host, containerPath: "/ro", readonly: true },
      { hostPath: `${rig.directory}/made/now`, containerPath: "/made" },
    ],
    devices: [{ hostPath: "/dev/zero", containerPath: "/dev/nil", permissions: "r" }],
    envs: [{ key: "GIVEN", value: Buffer.from("yes") }],
    workingDir: "/rw",
  });
  assert.equal(await run(id, "cat file; pwd; echo $GIVEN; echo $HOSTNAME"), `from outside/rw\nyes\n${hostname()}`);
  assert.equal(await run(id, "touch /ro/x 2>/dev/null && echo written || echo refused"), "refused");
  await run(id, "touch /made/x");
  assert.ok(existsSync(`${rig.directory}/made/now/x`));
  assert.equal(await run(id, "head -c 3 /dev/nil | od -An -tx1"), "00 00 00");
  assert.equal(await run(id, "grep -c . /etc/hosts > /dev/null && cat /etc/hostname"), hostname());
  assert.equal(await run(id, "grep ' /dev/shm ' /proc/mounts | cut -d' ' -f3"), "tmpfs");
  assert.equal((await statusOf(id)).mounts.length, 3);
});

test("devices of CDI are there with all that their files say", { skip }, async () => {
  await using pod = await runPod();
  await mkdir(`${rig.directory}/cdi`);
  const edits = {
    env: ["VENDOR=all"],
    mounts: [{ hostPath: "/etc/hostname", containerPath: "/vendor/name", options: ["ro", "bind"] }],
    additionalGids: [4711],
  };
  const deviceNodes = [{ path: "/dev/vendor0", hostPath: "/dev/zero", permissions: "r" }];
  const devices = [
    { name: "0", containerEdits: { deviceNodes } },
    { name: "1", containerEdits: { env: ["DEVICE=1"] } },
  ];
  const document = { cdiVersion: "0.7.0", kind: "vendor.com/thing", containerEdits: edits, devices };
  await writeFile(`${rig.directory}/cdi/vendor.json`, JSON.stringify(document));
  const id = await pod.start({
    CDIDevices: [{ name: "vendor.com/thing=0" }],
    annotations: { "cdi.k8s.io/vendor.com_1": "vendor.com/thing=1" },
  });
  assert.equal(await run(id, "echo $VENDOR $DEVICE; head -c 2 /dev/vendor0 | od -An -tx1"), "all 1\n 00 00");
  assert.match(await run(id, "id -G; cat /vendor/name"), new RegExp(`\\b4711\\b[^]*${hostname()}`));
});

test("an image is a volume of several containers, and goes with its pod", { skip }, async () => {
  const volumes = `${rig.daemon.state}/io.containerd.grpc.v1.cri/image-volumes`;
  {
    await using pod = await runPod();
    const image = { image: "busybox:test" };
    const mount = { image, containerPath: "/seen", readonly: true };
    const [one, other] = [
      await pod.start({ mounts: [mount] }),
      await pod.start({ mounts: [{ ...mount, imageSubPath: "bin" }] }),
    ];
    assert.equal(await run(one, "test -e /seen/bin/busybox && echo there"), "there");
    assert.equal(await run(other, "test -e /seen/busybox && echo there"), "there");
    assert.equal(await run(one, "touch /seen/x 2>/dev/null && echo written || echo refused"), "refused");
    await assert.rejects(
      pod.create({ mounts: [{ ...mount, readonly: false }] }),
      /readonly must be true while mount image/,
    );
    assert.deepEqual(await readdir(volumes), [pod.id]);
    // Where containerd has it, under the digest of what the image's name stands for.
    const { manifest } = await busyboxImage();
    const place = `${volumes}/${pod.id}/${manifest.digest.replace("sha256:", "")}`;
    const found = (await readMountInfo()).find(({ mountPoint }) => mountPoint === place);
    assert.match(found?.superOptions ?? "", /volatile/);
  }
  assert.deepEqual(await readdir(volumes), []);
});

test("a container whose shim is killed has been killed, and its pod is not ready", { skip }, async () => {
  await using pod = await runPod();
  const id = await pod.start();
  const [shim] = listProcesses().filter(({ command }) => command.includes(` -id ${pod.id} `));
  assert.ok(shim);
  sendSignal(shim.pid, "SIGKILL");
  assert.equal((await ended(id)).exitCode, 137);
  await until(
    async () => {
      const { status } = await rig.runtime.podSandboxStatus({ podSandboxId: pod.id });
      return status?.state === PodSandboxState.SANDBOX_NOTREADY;
    },
    () => "the pod is still ready",
    30_000,
  );
});

test("lists are narrowed by id, pod, state and labels", { skip }, async () => {
  await using pod = await runPod();
  const running = await pod.start({ labels: { kind: "a" } });
  const created = await pod.create({ labels: { kind: "b" } });
  const find = async (filter: NonNullable<Parameters<typeof rig.runtime.listContainers>[0]["filter"]>) =>
    (await rig.runtime.listContainers({ filter })).containers.map(({ id }) => id);
  assert.deepEqual(await find({ podSandboxId: pod.id }), [running, created]);
  assert.deepEqual(await find({ id: created.slice(0, 12) }), [created]);
  assert.deepEqual(await find({ podSandboxId: pod.id, state: { state: ContainerState.CONTAINER_RUNNING } }), [running]);
  assert.deepEqual(await find({ labelSelector: { kind: "b" } }), [created]);
  assert.deepEqual(await find({ labelSelector: { kind: "c" } }), []);
  const streamed = [];
  for await (const { containers } of rig.runtime.streamContainers({ filter: { podSandboxId: pod.id } })) {
    streamed.push(...containers.map(({ id }) => id));
  }
  assert.deepEqual(streamed, [running, created]);
});

test("a container gets the class of block I/O that its annotation names", { skip }, async () => {
  await using pod = await runPod();
  const key = "io.kubernetes.cri.blockio-class";
  await assert.rejects(pod.create({ annotations: { [key]: "fast" } }), /no OCI BlockIO parameters for class "fast"/);
  const id = await pod.start({ annotations: { [key]: "slow" } });
  const { container } = await createClient(Containers, rig.daemon.transport).get(
    { id },
    { headers: clientHeaders("k8s.io") },
  );
  const spec = JSON.parse(Buffer.from(container?.spec?.value ?? []).toString());
  const limits = { throttleReadBpsDevice: [{ major: 7, minor: 0, rate: 10_000_000 }] };
  assert.deepEqual(spec.linux.resources.blockIO, existsSync("/dev/loop0") ? limits : {});
});

test("limits are told of, and changed while the container runs", { skip }, async () => {
  await using pod = await runPod();
  const resources = { memoryLimitInBytes: 64n * 1024n * 1024n, cpuShares: 512n };
  const id = await pod.start({ linux: { resources } });
  const before = (await statusOf(id)).resources?.linux;
  assert.deepEqual([before?.memoryLimitInBytes, before?.cpuShares], [resources.memoryLimitInBytes, 512n]);
  await rig.runtime.updateContainerResources({ containerId: id, linux: { memoryLimitInBytes: 128n * 1024n * 1024n } });
  const changed = (await statusOf(id)).resources?.linux;
  assert.deepEqual([changed?.memoryLimitInBytes, changed?.cpuShares], [128n * 1024n * 1024n, 512n]);
  await until(
    async () =>
      ((await rig.runtime.containerStats({ containerId: id })).stats?.memory?.availableBytes?.value ?? 0n) >
      64n * 1024n * 1024n,
    () => "the kernel does not know of the new limit",
    10_000,
  );
});

test("the kubelet is told what containers and pods take", { skip }, async () => {
  await using pod = await runPod({ linux: {} });
  const busy = await pod.start({ command: ["sh", "-c", "while :; do :; done"] });
  await rig.runtime.containerStats({ containerId: busy });
  await delay(300);
  const { stats } = await rig.runtime.containerStats({ containerId: busy });
  assert.equal(stats?.attributes?.id, busy);
  assert.ok((stats?.cpu?.usageCoreNanoSeconds?.value ?? 0n) > 0n);
  assert.ok((stats?.cpu?.usageNanoCores?.value ?? 0n) > 1_000_000n);
  assert.ok((stats?.memory?.workingSetBytes?.value ?? 0n) > 0n);
  assert.equal(stats?.writableLayer?.fsId?.mountpoint, `${rig.daemon.root}/io.containerd.snapshotter.v1.overlayfs`);
  const { stats: listed } = await rig.runtime.listContainerStats({ filter: { podSandboxId: pod.id } });
  assert.deepEqual(
    listed.map(({ attributes }) => attributes?.id),
    [busy],
  );
  const { stats: ofPod } = await rig.runtime.podSandboxStats({ podSandboxId: pod.id });
  assert.deepEqual(
    ofPod?.linux?.containers.map(({ attributes }) => attributes?.id),
    [busy],
  );
  assert.equal(ofPod?.linux?.network?.defaultInterface?.name, "eth0");
  assert.ok((ofPod?.linux?.process?.processCount?.value ?? 0n) >= 1n);
  const { stats: pods } = await rig.runtime.listPodSandboxStats({ filter: { id: pod.id } });
  assert.equal(pods.length, 1);
  const { descriptors } = await rig.runtime.listMetricDescriptors({});
  const names = new Set(descriptors.map(({ name }) => name));
  const { podMetrics } = await rig.runtime.listPodSandboxMetrics({});
  const metrics = podMetrics.flatMap(({ containerMetrics }) =>
    containerMetrics.flatMap((container) => container.metrics),
  );
  assert.ok(metrics.some(({ name, value }) => name === "container_memory_usage_bytes" && (value?.value ?? 0n) > 0n));
  for (const { name, labelValues } of metrics) {
    assert.ok(names.has(name), name);
    assert.equal(
      labelValues.length,
      descriptors.find((descriptor) => descriptor.name === name)?.labelKeys.length,
      name,
    );
  }
});

test("containers outlive this process, and what happened to them meanwhile is found out", { skip }, async () => {
  await using pod = await runPod();
  const running = await pod.start({
    command: ["sh", "-c", "i=0; while :; do echo tick $i; i=$((i+1)); sleep 0.1; done"],
  });
  const created = await pod.create();
  const done = await pod.start({ command: ["sh", "-c", "exit 4"] });
  await ended(done);
  const ending = await pod.start({ command: ["sh", "-c", "sleep 1; exit 5"] });
  await rig.daemon.kill9("cri");
  await delay(1_500);
  await until(
    () =>
      rig.runtime.listContainers({}).then(
        () => true,
        () => false,
      ),
    () => "the kubelet is not answered",
    30_000,
  );
  assert.equal((await statusOf(running)).state, ContainerState.CONTAINER_RUNNING);
  assert.equal((await statusOf(created)).state, ContainerState.CONTAINER_CREATED);
  assert.equal((await statusOf(done)).exitCode, 4);
  assert.equal((await ended(ending)).exitCode, 5);
  await rig.runtime.startContainer({ containerId: created });
  assert.equal(await run(created, "echo alive"), "alive");
  const { logPath } = await statusOf(running);
  const length = (await readFile(logPath, "utf8")).length;
  await until(
    async () => (await readFile(logPath, "utf8")).length > length,
    () => "the log has ended",
    10_000,
  );
  await rig.runtime.stopContainer({ containerId: running, timeout: 0n });
  assert.equal((await statusOf(running)).exitCode, 137);
  const ticks = (await readFile(logPath, "utf8")).split("\n").flatMap((line) => /tick (\d+)/.exec(line)?.[1] ?? []);
  assert.deepEqual(
    ticks,
    ticks.map((_tick, index) => `${index}`),
    "no line is lost",
  );
});

test("ends are learnt of whichever process dies meanwhile", { skip }, async () => {
  await using pod = await runPod();
  const id = await pod.start({ command: ["sh", "-c", "sleep 2; exit 6"] });
  await rig.daemon.kill9("tasks");
  assert.equal((await ended(id)).exitCode, 6);
});
