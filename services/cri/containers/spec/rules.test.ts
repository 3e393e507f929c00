import assert from "node:assert/strict";
import test from "node:test";
import { create } from "@bufbuild/protobuf";
import {
  LinuxContainerResourcesSchema,
  NamespaceMode,
  NamespaceOptionSchema,
  Signal,
  UserNamespaceSchema,
} from "#gen/runtime/v1/api_pb.ts";
import { passedAnnotations } from "./annotations.ts";
import { cgroupsPath, cleanPath } from "./cgroups-path.ts";
import { formatExactJson, parseExactJson } from "./exact-json.ts";
import { isSameUserNamespace, joinPodNamespaces, userMappings } from "./namespaces.ts";
import type { OciLinux } from "./oci-spec.ts";
import { isMatch } from "./path-pattern.ts";
import { mergeEnvironment, processArguments } from "./process-arguments.ts";
import { applyResources, oomScoreAdj, resourcesOf } from "./resources.ts";
import { signalName, signalNumber, signalOfName } from "./stop-signal.ts";

test("whole numbers of 64 bits survive JSON", () => {
  const text = '{"limit":9223372036854771712,"small":3,"odd":1.5,"list":[18446744073709551615]}';
  const value = parseExactJson(text);
  assert.deepEqual(value, { limit: 9223372036854771712n, small: 3, odd: 1.5, list: [18446744073709551615n] });
  assert.equal(formatExactJson(value), text);
});

test("the command of a container wins over the image's, and its arguments over the image's arguments", () => {
  const image = { entrypoint: ["/entry"], cmd: ["a", "b"] };
  assert.deepEqual(processArguments({ command: [], args: [], image }), ["/entry", "a", "b"]);
  assert.deepEqual(processArguments({ command: [], args: ["c"], image }), ["/entry", "c"]);
  assert.deepEqual(processArguments({ command: ["x"], args: [], image }), ["x"]);
  assert.deepEqual(processArguments({ command: ["x"], args: ["y"], image }), ["x", "y"]);
  assert.deepEqual(processArguments({ command: [], args: [], image: { entrypoint: [""], cmd: ["sh"] } }), ["sh"]);
  assert.throws(() => processArguments({ command: [], args: [], image: { entrypoint: [], cmd: [] } }), {
    message: "no command specified",
  });
});

test("variables are replaced in place, added behind, and taken out by their bare name", () => {
  assert.deepEqual(mergeEnvironment(["A=1", "B=2"], ["B=3", "C=4", "A"]), ["B=3", "C=4"]);
  assert.deepEqual(mergeEnvironment(["A=1"], ["A=x=y"]), ["A=x=y"]);
});

test("the cgroup of a container is below its pod's, or a scope of systemd", () => {
  assert.equal(cgroupsPath("/kubepods/pod1", "c"), "/kubepods/pod1/c");
  assert.equal(cgroupsPath("/kubepods//burstable/../x/", "c"), "/kubepods/x/c");
  assert.equal(cgroupsPath("/kubepods.slice/kubepods-pod1.slice", "c"), "kubepods-pod1.slice:cri-containerd:c");
  assert.equal(cleanPath("a/./b/../../.."), "..");
  assert.equal(cleanPath("/../a//b/"), "/a/b");
  assert.equal(cleanPath(""), ".");
});

test("patterns of annotations are Go's", () => {
  const fits: [string, string][] = [
    ["io.katacontainers.*", "io.katacontainers.config.x"],
    ["a?c", "abc"],
    ["[a-c]x", "bx"],
    ["[^a-c]x", "dx"],
    [String.raw`\*`, "*"],
    ["*", ""],
    ["a.b", "a.b"],
  ];
  for (const [pattern, name] of fits) {
    assert.equal(isMatch(pattern, name), true, pattern);
  }
  const misfits: [string, string][] = [
    ["a*", "a/b"],
    ["a?c", "a/c"],
    ["[", "["],
    ["[]a]", "a"],
    ["[c-a]", "b"],
    ["a.b", "axb"],
    [String.raw`a\ `.trim(), "a"],
  ];
  for (const [pattern, name] of misfits) {
    assert.equal(isMatch(pattern, name), false, pattern);
  }
  assert.deepEqual(passedAnnotations({ "a.x": "1", b: "2" }, ["a.*"]), { "a.x": "1" });
  assert.deepEqual(passedAnnotations({ a: "1" }, []), {});
});

const rules = {
  hasSwap: true,
  hasHugetlb: true,
  disableHugetlb: false,
  tolerateMissingHugetlb: false,
  oomScoreAdjMin: undefined,
};
const limits = (init: Parameters<typeof create<typeof LinuxContainerResourcesSchema>>[1]) =>
  create(LinuxContainerResourcesSchema, init);

test("limits are set where they are not 0, and swap is none unless asked for", () => {
  assert.deepEqual(applyResources({ pids: { limit: 3 } }, undefined, rules), { pids: { limit: 3 } });
  const set = applyResources(
    { cpu: { shares: 2 } },
    limits({ cpuQuota: -1n, cpusetCpus: "0", memoryLimitInBytes: 100n, unified: { "memory.high": "5" } }),
    rules,
  );
  assert.deepEqual(set, {
    cpu: { shares: 2, quota: -1, cpus: "0" },
    memory: { limit: 100, swap: 100 },
    unified: { "memory.high": "5" },
  });
  assert.deepEqual(
    applyResources({}, limits({ memoryLimitInBytes: 100n, memorySwapLimitInBytes: 300n }), rules).memory,
    {
      limit: 100,
      swap: 300,
    },
  );
  assert.deepEqual(applyResources({}, limits({ memoryLimitInBytes: 100n }), { ...rules, hasSwap: false }).memory, {
    limit: 100,
  });
  assert.equal(applyResources({}, limits({ memoryLimitInBytes: 2n ** 62n }), rules).memory?.limit, 2n ** 62n);
});

test("huge pages are limited where the machine can", () => {
  const wishes = limits({ hugepageLimits: [{ pageSize: "2MB", limit: 5n }] });
  assert.deepEqual(applyResources({}, wishes, rules).hugepageLimits, [{ pageSize: "2MB", limit: 5 }]);
  const old = {
    hugepageLimits: [
      { pageSize: "2MB", limit: 1 },
      { pageSize: "1GB", limit: 2 },
    ],
  };
  assert.deepEqual(applyResources(old, wishes, rules).hugepageLimits, [
    { pageSize: "1GB", limit: 2 },
    { pageSize: "2MB", limit: 5 },
  ]);
  assert.equal(applyResources({}, wishes, { ...rules, disableHugetlb: true }).hugepageLimits, undefined);
  const missing = { ...rules, hasHugetlb: false };
  assert.throws(() => applyResources({}, wishes, missing), /hugetlb cgroup controller is missing/);
  assert.equal(applyResources({}, wishes, { ...missing, tolerateMissingHugetlb: true }).hugepageLimits, undefined);
});

test("the kubelet is told the limits that hold", () => {
  const resources = limits({
    cpuPeriod: 9n,
    cpuShares: 4n,
    memoryLimitInBytes: 8n,
    memorySwapLimitInBytes: 8n,
    oomScoreAdj: -5n,
  });
  const spec = {
    ociVersion: "1.3.0",
    process: { cwd: "/", user: { uid: 0, gid: 0 }, oomScoreAdj: oomScoreAdj(resources, rules) },
    linux: { resources: applyResources({}, resources, rules) },
  };
  assert.deepEqual(resourcesOf(spec), resources);
  assert.equal(oomScoreAdj(resources, { ...rules, oomScoreAdjMin: 0 }), 0);
});

test("a container joins its pod's namespaces", () => {
  const join = (init: Parameters<typeof create<typeof NamespaceOptionSchema>>[1]): OciLinux => {
    const linux: OciLinux = { namespaces: [{ type: "pid" }, { type: "mount" }] };
    joinPodNamespaces(linux, create(NamespaceOptionSchema, init), { sandboxPid: 1, targetPid: 2 });
    return linux;
  };
  assert.deepEqual(join({ pid: NamespaceMode.TARGET }).namespaces, [
    { type: "pid", path: "/proc/2/ns/pid" },
    { type: "mount" },
    { type: "network", path: "/proc/1/ns/net" },
    { type: "ipc", path: "/proc/1/ns/ipc" },
    { type: "uts", path: "/proc/1/ns/uts" },
  ]);
  assert.deepEqual(join({ pid: NamespaceMode.CONTAINER }).namespaces?.[0], { type: "pid" });
  const mapping = [{ hostId: 65536, containerId: 0, length: 10 }];
  const own = join({ usernsOptions: { mode: NamespaceMode.POD, uids: mapping, gids: mapping } });
  assert.deepEqual(own.namespaces?.at(-1), { type: "user", path: "/proc/1/ns/user" });
  assert.deepEqual(own.uidMappings, [{ hostID: 65536, containerID: 0, size: 10 }]);
});

test("users that make no sense are refused in containerd's words", () => {
  const mapping = { hostId: 1, containerId: 0, length: 10 };
  const parse = (init: Parameters<typeof create<typeof UserNamespaceSchema>>[1]) => () =>
    userMappings(create(UserNamespaceSchema, init));
  assert.throws(parse({ mode: NamespaceMode.POD }), {
    message: `can't use user namespace mode "POD" without UID and GID mappings`,
  });
  assert.throws(parse({ mode: NamespaceMode.NODE, uids: [mapping] }), /Got 1 UID mappings and 0 GID mappings/);
  assert.throws(parse({ mode: NamespaceMode.POD, uids: [mapping, mapping], gids: [mapping] }), {
    message: "UID mapping: only one mapping line supported, got 2 mapping lines",
  });
  assert.throws(parse({ mode: NamespaceMode.POD, uids: [{ length: 0 }] }), {
    message: "UID mapping: invalid mapping length: 0",
  });
  assert.throws(parse({ mode: NamespaceMode.CONTAINER }), { message: 'unsupported user namespace mode: "CONTAINER"' });
  const same = create(UserNamespaceSchema, { mode: NamespaceMode.NODE });
  assert.equal(isSameUserNamespace(undefined, undefined), true);
  assert.equal(isSameUserNamespace(same, undefined), false);
  assert.equal(isSameUserNamespace(same, create(UserNamespaceSchema, { mode: NamespaceMode.NODE })), true);
});

test("signals are known by name, number and the kubelet's number", () => {
  assert.equal(signalName(Signal.RUNTIME_DEFAULT), "");
  assert.equal(signalName(Signal.SIGRTMINPLUS3), "SIGRTMIN+3");
  assert.equal(signalOfName("SIGRTMAX-14"), Signal.SIGRTMAXMINUS14);
  assert.equal(signalOfName("SIGNOTHING"), Signal.RUNTIME_DEFAULT);
  assert.throws(() => signalName(99 as Signal), { message: "unknown CRI stop signal 99: invalid argument" });
  const numbers: [string, number][] = [
    ["SIGTERM", 15],
    ["quit", 3],
    ["9", 9],
    ["SIGRTMIN+3", 37],
    ["RTMAX-1", 63],
    ["SIGCLD", 17],
  ];
  for (const [text, number] of numbers) {
    assert.equal(signalNumber(text), number, text);
  }
  assert.throws(() => signalNumber("SIGNOTHING"), {
    message: 'failed to parse stop signal "SIGNOTHING": invalid signal: SIGNOTHING',
  });
  assert.throws(() => signalNumber("0"));
});
