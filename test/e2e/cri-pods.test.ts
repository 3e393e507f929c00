import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { chmod, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { createClient } from "@connectrpc/connect";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { Introspection } from "#gen/containerd/services/introspection/v1/introspection_pb.ts";
import { CgroupDriver, NamespaceMode, PodSandboxState, Protocol } from "#gen/runtime/v1/api_pb.ts";
import { CriRig, cniDirectory, nothingLeft, podConfig } from "../kit/cri-rig.ts";
import { isRunning, until } from "../kit/processes.ts";

const skip = existsSync(`${cniDirectory}/bridge`)
  ? false
  : "pods need the programs of CNI (containernetworking-plugins)";
let rig: CriRig;

before(async () => {
  if (skip === false) {
    rig = await CriRig.start({ cni: 'conf_template = ""' });
  }
});
after(async () => {
  await rig?.[Symbol.asyncDispose]();
});

/** What is deprecated on this machine, as every client can ask. */
async function findDeprecations(): Promise<readonly unknown[]> {
  return (await createClient(Introspection, rig.daemon.transport).server({})).deprecations;
}

async function infoOf(podSandboxId: string): Promise<{ readonly pid: number } & Record<string, unknown>> {
  const { info } = await rig.runtime.podSandboxStatus({ podSandboxId, verbose: true });
  return JSON.parse(info["info"] ?? "{}") as { pid: number };
}

test("the runtime and its network are ready, and it says how cgroups are made", { skip }, async () => {
  const { status, info, features } = await rig.runtime.status({ verbose: true });
  assert.deepEqual(
    status?.conditions.map(({ type, status: isSo }) => [type, isSo]),
    [
      ["RuntimeReady", true],
      ["NetworkReady", true],
      ["ContainerdHasNoDeprecationWarnings", (await findDeprecations()).length === 0],
    ],
  );
  assert.equal(info["lastCNILoadStatus"], "OK");
  assert.equal(info["lastCNILoadStatus.default"], "OK");
  const { Networks: networks } = JSON.parse(info["cniconfig"] ?? "{}") as { Networks: { IFName: string }[] };
  assert.deepEqual(
    networks.map(({ IFName: name }) => name),
    ["lo", "eth0"],
  );
  const config = JSON.parse(info["config"] ?? "{}") as Record<string, unknown>;
  assert.partialDeepStrictEqual(config, {
    maxContainerLogLineSize: 16_384,
    restrictOOMScoreAdj: true,
    netnsMountsUnderStateDir: true,
    containerdEndpoint: rig.daemon.address,
    cni: { maxConfNum: 1 },
    containerd: { defaultRuntimeName: "runc", runtimes: { runc: { runtimeType: "io.containerd.runc.v2" } } },
  });
  assert.equal(features?.supplementalGroupsPolicy, true);
  const { linux } = await rig.runtime.runtimeConfig({});
  assert.equal(linux?.cgroupDriver, CgroupDriver.CGROUPFS);
});

test("a pod lives from its start to its removal, and leaves nothing", { skip }, async () => {
  const config = podConfig({
    labels: { app: "web" },
    annotations: { note: "mine" },
    dnsConfig: { servers: ["10.0.0.1", "10.0.0.2"], searches: ["a.example", "b.example"], options: ["ndots:2"] },
    linux: { sysctls: { "net.ipv4.ip_forward": "1" } },
  });
  const { podSandboxId } = await rig.runtime.runPodSandbox({ config });
  assert.match(podSandboxId, /^[\da-f]{64}$/);

  const { status, info } = await rig.runtime.podSandboxStatus({ podSandboxId: podSandboxId.slice(0, 12) });
  assert.deepEqual(info, {});
  assert.equal(status?.id, podSandboxId);
  assert.equal(status.state, PodSandboxState.SANDBOX_READY);
  assert.equal(status.metadata?.name, config.metadata?.name);
  assert.deepEqual({ ...status.labels }, { app: "web" });
  assert.deepEqual({ ...status.annotations }, { note: "mine" });
  assert.match(status.network?.ip ?? "", /^10\.88\.\d+\.\d+$/);
  assert.match(status.network?.additionalIps[0]?.ip ?? "", /^fd42:88::/);
  assert.ok(status.createdAt > 0n);

  const directory = `${rig.daemon.root}/io.containerd.grpc.v1.cri/sandboxes/${podSandboxId}`;
  assert.equal(await readFile(`${directory}/hostname`, "utf8"), `${config.hostname}\n`);
  assert.equal(await readFile(`${directory}/hosts`, "utf8"), await readFile("/etc/hosts", "utf8"));
  assert.equal(
    await readFile(`${directory}/resolv.conf`, "utf8"),
    "search a.example b.example\nnameserver 10.0.0.1\nnameserver 10.0.0.2\noptions ndots:2\n",
  );
  const { pid } = await infoOf(podSandboxId);
  assert.equal(
    await readFile(`/proc/${pid}/root/etc/resolv.conf`, "utf8"),
    await readFile(`${directory}/resolv.conf`, "utf8"),
  );
  assert.match(await readFile(`/proc/${pid}/mounts`, "utf8"), /^shm \/dev\/shm tmpfs ro,.*size=65536k/m);
  const [namespace] = await rig.podNamespaces();
  assert.match(namespace ?? "", /^cni-[\da-f-]{36}$/);
  const inPod = ["nsenter", `--net=/proc/${pid}/ns/net`, "--"];
  assert.equal(await rig.onMachine(...inPod, "cat", "/proc/sys/net/ipv4/ip_forward"), "1");
  assert.equal(await rig.onMachine(...inPod, "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start"), "0");
  assert.match(await rig.onMachine(...inPod, "cat", "/proc/sys/net/ipv4/ping_group_range"), /^0\s+2147483647$/);
  assert.match(await rig.onMachine(...inPod, "ip", "-o", "link", "show", "lo"), /LOWER_UP/);

  await rig.runtime.stopPodSandbox({ podSandboxId });
  await rig.runtime.stopPodSandbox({ podSandboxId });
  assert.equal(isRunning(pid), false);
  const stopped = await rig.runtime.podSandboxStatus({ podSandboxId });
  assert.equal(stopped.status?.state, PodSandboxState.SANDBOX_NOTREADY);
  assert.equal(stopped.status.network?.ip, "");
  assert.deepEqual(await rig.addresses(), []);
  await rig.runtime.removePodSandbox({ podSandboxId });
  await rig.runtime.removePodSandbox({ podSandboxId });
  await rig.runtime.stopPodSandbox({ podSandboxId });
  await assert.rejects(rig.runtime.podSandboxStatus({ podSandboxId }), (error) => isFailure(error, ErrorKind.NotFound));
  await until(
    async () => isNothing(await rig.leftovers()),
    () => "something of the pod is left",
    10_000,
  );
  assert.deepEqual(await rig.leftovers(), nothingLeft);
});

test("pods are listed by id, state and labels, whole and in pieces", { skip }, async () => {
  const ids: string[] = [];
  for (const app of ["one", "two"]) {
    const config = podConfig({ labels: { app, kind: "listed" } });
    ids.push((await rig.runtime.runPodSandbox({ config })).podSandboxId);
  }
  const [one = "", two = ""] = ids;
  await rig.runtime.stopPodSandbox({ podSandboxId: two });
  const list = async (filter: Parameters<typeof rig.runtime.listPodSandbox>[0]["filter"]): Promise<string[]> =>
    (await rig.runtime.listPodSandbox(filter === undefined ? {} : { filter })).items.map(({ id }) => id);
  assert.deepEqual((await list(undefined)).toSorted(), ids.toSorted());
  assert.deepEqual(await list({ id: one.slice(0, 10) }), [one]);
  assert.deepEqual(await list({ id: "none" }), []);
  assert.deepEqual(await list({ state: { state: PodSandboxState.SANDBOX_READY } }), [one]);
  assert.deepEqual(await list({ state: { state: PodSandboxState.SANDBOX_NOTREADY } }), [two]);
  assert.deepEqual(await list({ labelSelector: { kind: "listed", app: "two" } }), [two]);
  assert.deepEqual(await list({ id: one, labelSelector: { app: "two" } }), []);
  const streamed: string[] = [];
  for await (const { podSandboxes } of rig.runtime.streamPodSandboxes({
    filter: { labelSelector: { kind: "listed" } },
  })) {
    streamed.push(...podSandboxes.map(({ id }) => id));
  }
  assert.deepEqual(streamed.toSorted(), ids.toSorted());
  await Promise.all(ids.map((podSandboxId) => rig.runtime.removePodSandbox({ podSandboxId })));
});

test("a name belongs to one pod at a time, and what makes no sense is refused", { skip }, async () => {
  const config = podConfig();
  const { podSandboxId } = await rig.runtime.runPodSandbox({ config });
  await assert.rejects(rig.runtime.runPodSandbox({ config }), {
    message: /failed to reserve sandbox name "pod-\d+_default_uid-\d+_0"/,
  });
  await assert.rejects(rig.runtime.runPodSandbox({}), { message: "sandbox config must include metadata" });
  await assert.rejects(rig.runtime.runPodSandbox({ config: podConfig(), runtimeHandler: "none" }), {
    message: /no runtime for "none" is configured/,
  });
  await assert.rejects(rig.runtime.podSandboxStatus({ podSandboxId: "" }), (error) =>
    isFailure(error, ErrorKind.NotFound),
  );
  await rig.runtime.removePodSandbox({ podSandboxId });
  const { podSandboxId: again } = await rig.runtime.runPodSandbox({ config });
  assert.notEqual(again, podSandboxId);
  await rig.runtime.removePodSandbox({ podSandboxId: again });
  await until(
    async () => isNothing(await rig.leftovers()),
    () => "something is left",
    10_000,
  );
});

test("a pod with the machine's network and processes has no namespace of its own", { skip }, async () => {
  const namespaceOptions = { network: NamespaceMode.NODE, pid: NamespaceMode.NODE, ipc: NamespaceMode.NODE };
  const config = podConfig({ hostname: "", linux: { securityContext: { namespaceOptions } } });
  const { podSandboxId } = await rig.runtime.runPodSandbox({ config });
  assert.deepEqual(await rig.podNamespaces(), []);
  const { status } = await rig.runtime.podSandboxStatus({ podSandboxId });
  assert.equal(status?.network?.ip, "");
  assert.equal(status.linux?.namespaces?.options?.network, NamespaceMode.NODE);
  const { pid } = await infoOf(podSandboxId);
  assert.equal(
    await rig.onMachine("readlink", `/proc/${pid}/ns/net`),
    await rig.onMachine("readlink", "/proc/self/ns/net"),
  );
  await rig.runtime.removePodSandbox({ podSandboxId });
});

test("ports of the machine lead into a pod", { skip }, async () => {
  const config = podConfig({ portMappings: [{ protocol: Protocol.TCP, containerPort: 80, hostPort: 18_080 }] });
  const { podSandboxId } = await rig.runtime.runPodSandbox({ config });
  const rules = await rig.onMachine("iptables-save", "-t", "nat");
  const { status } = await rig.runtime.podSandboxStatus({ podSandboxId });
  assert.match(rules, new RegExp(`--dport 18080 -j DNAT --to-destination ${status?.network?.ip}:80`));
  await rig.runtime.removePodSandbox({ podSandboxId });
  assert.doesNotMatch(await rig.onMachine("iptables-save", "-t", "nat"), /18080/);
});

test("a pod whose network fails is undone whole", { skip }, async () => {
  const broken = JSON.stringify({
    cniVersion: "1.0.0",
    name: "broken",
    plugins: [{ type: "bridge", bridge: "cni0" }, { type: "refuse" }],
  });
  await mkdir(`${rig.directory}/bin`, { recursive: true });
  await writeFile(
    `${rig.directory}/bin/refuse`,
    '#!/bin/sh\n[ "$CNI_COMMAND" = DEL ] && exit 0\necho \'{"code": 11, "msg": "no more", "details": "try later"}\'\nexit 1\n',
  );
  await chmod(`${rig.directory}/bin/refuse`, 0o755);
  await writeFile(`${rig.directory}/net.d/00-broken.conflist`, broken);
  try {
    const config = podConfig();
    for (let attempt = 0; attempt < 2; attempt += 1) {
      await assert.rejects(rig.runtime.runPodSandbox({ config }), {
        message:
          /^failed to setup network for sandbox "[\da-f]{64}": plugin type="refuse" failed \(add\): no more; try later$/,
      });
    }
    assert.deepEqual((await rig.runtime.listPodSandbox({})).items, []);
    assert.deepEqual(await rig.leftovers(), nothingLeft);
  } finally {
    await rm(`${rig.directory}/net.d/00-broken.conflist`);
  }
  const { podSandboxId } = await rig.runtime.runPodSandbox({ config: podConfig() });
  await rig.runtime.removePodSandbox({ podSandboxId });
});

test("without a configuration of a network it is not ready, and ready as soon as there is one", { skip }, async () => {
  const path = `${rig.directory}/net.d/10-test.conflist`;
  const text = await readFile(path, "utf8");
  await writeFile(path, "{}");
  const ready = async (): Promise<{ readonly status: boolean; readonly reason: string; readonly message: string }> => {
    const { status } = await rig.runtime.status({});
    const found = status?.conditions.find(({ type }) => type === "NetworkReady");
    assert.ok(found !== undefined);
    return found;
  };
  const { status, reason, message } = await ready();
  assert.deepEqual(
    { status, reason, message },
    {
      status: false,
      reason: "NetworkPluginNotReady",
      message: "Network plugin returns error: cni plugin not initialized",
    },
  );
  const { info } = await rig.runtime.status({ verbose: true });
  assert.match(
    info["lastCNILoadStatus"] ?? "",
    /^cni config load failed: failed to load CNI config list file .*no name/,
  );
  await assert.rejects(rig.runtime.runPodSandbox({ config: podConfig() }), /cni plugin not initialized/);
  await writeFile(path, text);
  assert.equal((await ready()).status, true);
});

test("limits of a pod that change are kept and shown", { skip }, async () => {
  const { podSandboxId } = await rig.runtime.runPodSandbox({ config: podConfig() });
  await rig.runtime.updatePodSandboxResources({
    podSandboxId,
    overhead: { cpuShares: 64n },
    resources: { cpuShares: 512n, memoryLimitInBytes: 134_217_728n },
  });
  const shown = async (): Promise<unknown> => {
    const { overhead, resources } = await infoOf(podSandboxId);
    return { overhead, resources };
  };
  const expected = {
    overhead: { linux: { cpu_shares: 64 } },
    resources: { linux: { cpu_shares: 512, memory_limit_in_bytes: 134_217_728 } },
  };
  assert.deepEqual(await shown(), expected);
  await rig.daemon.kill9("cri");
  assert.deepEqual(await shown(), expected);
  await rig.runtime.removePodSandbox({ podSandboxId });
});

for (const name of ["cri", "tasks", "metadata", "snapshots", "gateway"] as const) {
  test(`kill -9 of ${name}: a pod is found again as it was, and its end is seen`, { skip }, async () => {
    const { podSandboxId } = await rig.runtime.runPodSandbox({ config: podConfig() });
    const { status: before } = await rig.runtime.podSandboxStatus({ podSandboxId });
    const { pid } = await infoOf(podSandboxId);
    await rig.daemon.kill9(name);
    if (name === "gateway") {
      await rig.daemon.start();
    }
    const { status: then } = await rig.runtime.podSandboxStatus({ podSandboxId });
    assert.deepEqual(then, before);
    assert.equal(isRunning(pid), true);
    process.kill(pid, "SIGKILL");
    await until(
      async () =>
        (await rig.runtime.podSandboxStatus({ podSandboxId })).status?.state === PodSandboxState.SANDBOX_NOTREADY,
      () => "the end of the pod is not seen",
      20_000,
    );
    await rig.runtime.removePodSandbox({ podSandboxId });
    await until(
      async () => isNothing(await rig.leftovers()),
      () => "something of the pod is left",
      20_000,
    );
  });
}

test("a pod that was being made when its process was killed is made once, and can be removed", { skip }, async () => {
  await mkdir(`${rig.directory}/bin`, { recursive: true });
  const conf = JSON.parse(await readFile(`${rig.directory}/net.d/10-test.conflist`, "utf8")) as { plugins: object[] };
  const text = JSON.stringify({ ...conf, plugins: [...conf.plugins, { type: "slow" }] });
  await writeFile(
    `${rig.directory}/bin/slow`,
    `#!/bin/sh\n[ "$CNI_COMMAND" = DEL ] && exit 0\ntouch ${rig.directory}/reached\nsleep 60\n`,
  );
  await chmod(`${rig.directory}/bin/slow`, 0o755);
  await writeFile(`${rig.directory}/net.d/00-slow.conflist`, text);
  const running = rig.runtime.runPodSandbox({ config: podConfig() }).then(
    () => "done",
    () => "failed",
  );
  await until(
    () => existsSync(`${rig.directory}/reached`),
    () => "the slow program is not run",
    20_000,
  );
  // The next process makes it without the slow program.
  await rm(`${rig.directory}/net.d/00-slow.conflist`);
  await rig.daemon.kill9("cri");
  assert.equal(await running, "done");
  const { items } = await rig.runtime.listPodSandbox({});
  assert.equal(items.length, 1);
  assert.equal(items[0]?.state, PodSandboxState.SANDBOX_READY);
  await rig.runtime.removePodSandbox({ podSandboxId: items[0]?.id ?? "" });
  await until(
    async () => isNothing(await rig.leftovers()),
    () => "something of the half pod is left",
    20_000,
  );
  assert.deepEqual(await rig.leftovers(), nothingLeft);
});

test("eight pods at a time come and go, and nothing is left", { skip }, async () => {
  await Promise.all(
    Array.from({ length: 8 }, async () => {
      for (let round = 0; round < 2; round += 1) {
        const { podSandboxId } = await rig.runtime.runPodSandbox({ config: podConfig() });
        await rig.runtime.stopPodSandbox({ podSandboxId });
        await rig.runtime.removePodSandbox({ podSandboxId });
      }
    }),
  );
  await until(
    async () => isNothing(await rig.leftovers()),
    () => "something of the pods is left",
    20_000,
  );
  assert.deepEqual(await rig.leftovers(), nothingLeft);
});

function isNothing(leftovers: Readonly<Record<string, readonly string[]>>): boolean {
  return Object.values(leftovers).every((list) => list.length === 0);
}
