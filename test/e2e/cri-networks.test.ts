import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { chmod, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { test } from "node:test";
import { execa } from "execa";
import { NamespaceMode, Protocol } from "#gen/runtime/v1/api_pb.ts";
import { CriRig, cniDirectory, nothingLeft, podConfig } from "../kit/cri-rig.ts";
import { sendSignal, until } from "../kit/processes.ts";

const skip = existsSync(`${cniDirectory}/bridge`)
  ? false
  : "pods need the programs of CNI (containernetworking-plugins)";

/** A program of CNI that notes what it was told, and answers ADD with a result. */
async function addProgram(rig: CriRig, name: string, result: object): Promise<() => Promise<Told[]>> {
  const notes = `${rig.directory}/${name}.notes`;
  await mkdir(`${rig.directory}/bin`, { recursive: true });
  const script = `#!/bin/sh
conf=$(cat)
printf '%s\\t%s\\t%s\\t%s\\t%s\\n' "$CNI_COMMAND" "$CNI_IFNAME" "$CNI_ARGS" "$CNI_NETNS" "$conf" >> ${notes}
[ "$CNI_COMMAND" = ADD ] && printf '%s' '${JSON.stringify(result)}'
[ "$CNI_COMMAND" = STATUS ] && [ -e ${rig.directory}/${name}.down ] && { echo '{"code":50,"msg":"no link"}'; exit 1; }
exit 0
`;
  await writeFile(`${rig.directory}/bin/${name}`, script);
  await chmod(`${rig.directory}/bin/${name}`, 0o755);
  return async () =>
    (await readFile(notes, "utf8").catch(() => ""))
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => {
        const [command = "", interfaceName = "", args = "", netns = "", conf = "{}"] = line.split("\t");
        return { command, interfaceName, args, netns, conf: JSON.parse(conf) as Told["conf"] };
      });
}

interface Told {
  readonly command: string;
  readonly interfaceName: string;
  readonly args: string;
  readonly netns: string;
  readonly conf: Readonly<Record<string, unknown>>;
}

async function isEverythingGone(rig: CriRig): Promise<boolean> {
  return Object.values(await rig.leftovers()).every((list) => list.length === 0);
}

test("programs are told of a pod what they can use, and its result is kept until it is undone", { skip }, async () => {
  const capabilities = {
    portMappings: true,
    bandwidth: true,
    dns: true,
    cgroupPath: true,
    "io.kubernetes.cri.pod-annotations": true,
  };
  await using rig = await CriRig.start({ network: "", cni: "use_internal_loopback = true" });
  const told = await addProgram(rig, "note", {
    cniVersion: "1.0.0",
    interfaces: [{ name: "eth0", sandbox: "x", mac: "02:00:00:00:00:01" }],
    ips: [{ address: "10.99.0.2/24", gateway: "10.99.0.1", interface: 0 }],
  });
  const conf = {
    cniVersion: "1.0.0",
    name: "noted",
    plugins: [
      { type: "note", capabilities },
      { type: "note", extra: 1 },
    ],
  };
  await writeFile(`${rig.directory}/net.d/10-note.conflist`, JSON.stringify(conf));
  const annotations = { "kubernetes.io/ingress-bandwidth": "10M", "kubernetes.io/egress-bandwidth": "1.5k" };
  const config = podConfig({
    annotations,
    portMappings: [
      { protocol: Protocol.UDP, containerPort: 53, hostPort: 5353, hostIp: "127.0.0.1" },
      { protocol: Protocol.TCP, containerPort: 80 },
    ],
    dnsConfig: { servers: ["1.2.3.4"], searches: ["a.b"], options: [] },
    linux: { cgroupParent: "" },
  });
  const { podSandboxId } = await rig.runtime.runPodSandbox({ config });
  const { status } = await rig.runtime.podSandboxStatus({ podSandboxId });
  assert.equal(status?.network?.ip, "10.99.0.2");
  const [first, second, ...more] = await told();
  assert.deepEqual(more, []);
  assert.equal(first?.command, "ADD");
  assert.equal(first.interfaceName, "eth0");
  assert.match(first.netns, /\/netns\/cni-/);
  const { name, namespace, uid } = config.metadata ?? {};
  assert.deepEqual(first.args.split(";").toSorted(), [
    "IgnoreUnknown=1",
    `K8S_POD_INFRA_CONTAINER_ID=${podSandboxId}`,
    `K8S_POD_NAME=${name}`,
    `K8S_POD_NAMESPACE=${namespace}`,
    `K8S_POD_UID=${uid}`,
  ]);
  assert.deepEqual(first.conf["runtimeConfig"], {
    portMappings: [{ HostPort: 5353, ContainerPort: 53, Protocol: "udp", HostIP: "127.0.0.1" }],
    bandwidth: { IngressRate: 10_000_000, IngressBurst: 4_294_967_295, EgressRate: 1500, EgressBurst: 4_294_967_295 },
    dns: { Servers: ["1.2.3.4"], Searches: ["a.b"], Options: [] },
    "io.kubernetes.cri.pod-annotations": annotations,
  });
  assert.equal(first.conf["name"], "noted");
  assert.equal(first.conf["cniVersion"], "1.0.0");
  assert.equal("runtimeConfig" in (second?.conf ?? {}), false);
  assert.ok(second !== undefined);
  assert.deepEqual((second.conf["prevResult"] as { ips: unknown }).ips, [
    { address: "10.99.0.2/24", gateway: "10.99.0.1", interface: 0 },
  ]);
  const kept = `/var/lib/cni/results/noted-${podSandboxId}-eth0`;
  const { kind, containerId, result } = JSON.parse(await readFile(kept, "utf8")) as Record<string, unknown>;
  assert.deepEqual({ kind, containerId }, { kind: "cniCacheV1", containerId: podSandboxId });
  assert.equal((result as { cniVersion: string }).cniVersion, "1.0.0");

  await rig.runtime.removePodSandbox({ podSandboxId });
  const removals = (await told()).filter(({ command }) => command === "DEL");
  assert.deepEqual(
    removals.map(({ conf: { extra } }) => extra),
    [1, undefined],
  );
  assert.ok(removals.every(({ conf: { prevResult } }) => prevResult !== undefined));
  assert.equal(existsSync(kept), false);

  for (const [bandwidth, reason] of [
    ["1", /resource is unreasonably small/],
    ["2P", /resource is unreasonably large/],
    ["much", /quantities must match/],
  ] as const) {
    const bad = podConfig({ annotations: { "kubernetes.io/ingress-bandwidth": bandwidth } });
    await assert.rejects(rig.runtime.runPodSandbox({ config: bad }), reason);
  }
  await until(
    () => isEverythingGone(rig),
    () => "something is left",
    10_000,
  );
});

test("a pod has an interface for each configuration, and is known by the version of IP that is preferred", {
  skip,
}, async () => {
  await using rig = await CriRig.start({
    network: "",
    cni: 'max_conf_num = 0\nip_pref = "ipv6"\nsetup_serially = true',
  });
  const ranges = [[{ subnet: "10.77.0.0/24" }], [{ subnet: "fd42:77::/64" }]];
  const bridge = (name: string, subnets: object[][]): string =>
    JSON.stringify({
      cniVersion: "0.4.0",
      name,
      plugins: [
        {
          type: "bridge",
          bridge: name,
          isGateway: true,
          ipam: { type: "host-local", dataDir: `${rig.directory}/ipam`, ranges: subnets },
        },
      ],
    });
  await writeFile(`${rig.directory}/net.d/10-one.conflist`, bridge("one0", ranges));
  await writeFile(`${rig.directory}/net.d/20-two.conflist`, bridge("two0", [[{ subnet: "10.78.0.0/24" }]]));
  await writeFile(`${rig.directory}/net.d/30-notes.txt`, "no configuration");
  const { podSandboxId } = await rig.runtime.runPodSandbox({ config: podConfig() });
  const { status, info } = await rig.runtime.podSandboxStatus({ podSandboxId, verbose: true });
  assert.match(status?.network?.ip ?? "", /^fd42:77::/);
  assert.match(status?.network?.additionalIps[0]?.ip ?? "", /^10\.77\.0\./);
  const { cniResult, pid } = JSON.parse(info["info"] ?? "{}") as {
    cniResult: { Interfaces: Record<string, unknown> };
    pid: number;
  };
  assert.ok("eth1" in cniResult.Interfaces);
  assert.match(
    await rig.onMachine("nsenter", `--net=/proc/${pid}/ns/net`, "--", "ip", "-br", "addr"),
    /eth1\S*\s+UP\s+10\.78\.0\./,
  );
  await rig.runtime.removePodSandbox({ podSandboxId });
});

test("a network of the newest version is asked whether it is well, and results of the oldest are understood", {
  skip,
}, async () => {
  await using rig = await CriRig.start({ network: "", cni: "use_internal_loopback = true" });
  await addProgram(rig, "old", { cniVersion: "0.2.0", ip4: { ip: "10.66.0.9/24", gateway: "10.66.0.1" }, dns: {} });
  await writeFile(
    `${rig.directory}/net.d/10-old.conf`,
    JSON.stringify({ cniVersion: "1.1.0", name: "old", type: "old" }),
  );
  const isReady = async (): Promise<readonly [boolean | undefined, string | undefined]> => {
    const { status } = await rig.runtime.status({});
    const ready = status?.conditions.find(({ type }) => type === "NetworkReady");
    return [ready?.status, ready?.message];
  };
  assert.deepEqual(await isReady(), [true, ""]);
  await writeFile(`${rig.directory}/old.down`, "");
  assert.deepEqual(await isReady(), [false, "Network plugin returns error: no link"]);
  await rm(`${rig.directory}/old.down`);
  const { podSandboxId } = await rig.runtime.runPodSandbox({ config: podConfig() });
  const { status } = await rig.runtime.podSandboxStatus({ podSandboxId });
  assert.equal(status?.network?.ip, "10.66.0.9");
  await rig.runtime.removePodSandbox({ podSandboxId });
});

test("the kubelet's ranges and a template make a configuration, unless there is one", { skip }, async (t) => {
  const template = "/tmp/flotilla-test-cni.template";
  await writeFile(
    template,
    '{"cniVersion":"1.0.0","name":"made","plugins":[{"type":"bridge","bridge":"made0","isGateway":true,"ipam":{"type":"host-local","subnet":"{{.PodCIDR}}","routes":[{{range $i, $r := .Routes}}{{if $i}},{{end}}{"dst":"{{$r}}"}{{end}}]}}]}',
  );
  await using rig = await CriRig.start({ network: "", cni: `conf_template = "${template}"` });
  t.after(() => rm(template, { force: true }));
  const made = `${rig.directory}/net.d/10-containerd-net.conflist`;
  const tell = (podCidr: string) => rig.runtime.updateRuntimeConfig({ runtimeConfig: { networkConfig: { podCidr } } });
  await tell("");
  assert.equal(existsSync(made), false);
  await assert.rejects(tell("10.55.0.0/24, here"), { message: "get routes: invalid CIDR address: here" });
  await tell("10.55.0.0/24, fd00:55::/64");
  const { plugins } = JSON.parse(await readFile(made, "utf8")) as { plugins: { ipam: object }[] };
  assert.deepEqual(plugins[0]?.ipam, {
    type: "host-local",
    subnet: "10.55.0.0/24",
    routes: [{ dst: "0.0.0.0/0" }, { dst: "::/0" }],
  });
  await tell("10.56.0.0/24");
  assert.match(await readFile(made, "utf8"), /10\.55\.0\.0/);
  const { podSandboxId } = await rig.runtime.runPodSandbox({ config: podConfig() });
  const { status } = await rig.runtime.podSandboxStatus({ podSandboxId });
  assert.match(status?.network?.ip ?? "", /^10\.55\.0\./);
  await rig.runtime.removePodSandbox({ podSandboxId });
  await rm("/var/lib/cni/networks/made", { recursive: true, force: true });
});

test("a pod with users of its own owns its network, with that of the machine too", { skip }, async (t) => {
  const { stdout } = await execa("containerd-shim-runc-v2", ["-v"]);
  if (/Version:\s+v?1\./.test(stdout)) {
    t.skip("the shim can't give the files of a root file system to other users (containerd-shim-runc-v2 before 2.0)");
    return;
  }
  await using rig = await CriRig.start();
  // Users of the pod walk to its root file system.
  await Promise.all([dirname(rig.daemon.root), rig.daemon.root, rig.daemon.state].map((path) => chmod(path, 0o711)));
  const mapping = [{ hostId: 300_000, containerId: 0, length: 65_536 }];
  const usernsOptions = { mode: NamespaceMode.POD, uids: mapping, gids: mapping };
  for (const network of [NamespaceMode.POD, NamespaceMode.NODE]) {
    const config = podConfig({
      hostname: "",
      linux: { securityContext: { namespaceOptions: { network, usernsOptions } } },
    });
    const { podSandboxId } = await rig.runtime.runPodSandbox({ config });
    const { info } = await rig.runtime.podSandboxStatus({ podSandboxId, verbose: true });
    const { pid } = JSON.parse(info["info"] ?? "{}") as { pid: number };
    assert.match(await readFile(`/proc/${pid}/uid_map`, "utf8"), /^\s*0\s+300000\s+65536\s*$/);
    if (network === NamespaceMode.POD) {
      const inside = ["nsenter", `--user=/proc/${pid}/ns/user`, `--net=/proc/${pid}/ns/net`, "--"];
      await rig.onMachine(...inside, "ip", "link", "set", "lo", "mtu", "1400");
    }
    await rig.runtime.removePodSandbox({ podSandboxId });
  }
  const twice = { mode: NamespaceMode.POD, uids: [...mapping, ...mapping], gids: mapping };
  const refused = podConfig({ linux: { securityContext: { namespaceOptions: { usernsOptions: twice } } } });
  await assert.rejects(
    rig.runtime.runPodSandbox({ config: refused }),
    /required only one uid mapping, but got 2 uid mapping\(s\)/,
  );
  await until(
    () => isEverythingGone(rig),
    () => "something is left",
    10_000,
  );
  assert.deepEqual(await rig.leftovers(), nothingLeft);
});

test("a configuration that is read again changes where networks are looked for, and what pods run on", {
  skip,
}, async () => {
  await using rig = await CriRig.start({ network: "" });
  const { daemon } = rig;
  const isReady = async (): Promise<boolean | undefined> =>
    (await rig.runtime.status({})).status?.conditions.find(({ type }) => type === "NetworkReady")?.status;
  assert.equal(await isReady(), false);
  await mkdir(`${rig.directory}/net.other`);
  await writeFile(
    `${rig.directory}/net.other/10-lo.conflist`,
    '{"cniVersion": "1.0.0", "name": "other", "plugins": [{"type": "loopback"}]}',
  );
  const path = `${dirname(daemon.root)}/config.toml`;
  const text = (await readFile(path, "utf8")).replace(`${rig.directory}/net.d`, `${rig.directory}/net.other`);
  const runtimes = '[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.other]\n';
  await writeFile(path, `${text}\n${runtimes}runtime_type = "io.containerd.runc.v2"\n`);
  sendSignal(daemon.pidOf("gateway") ?? assert.fail(), "SIGHUP");
  await until(
    async () => (await isReady()) === true,
    () => `the network is not ready:\n${daemon.log()}`,
  );
  const { runtimeHandlers } = await rig.runtime.status({});
  assert.ok(runtimeHandlers.some(({ name }) => name === "other"));
});
