import assert from "node:assert/strict";
import test from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  ContainerConfigSchema,
  MountPropagation,
  MountSchema,
  NamespaceMode,
  PodSandboxConfigSchema,
} from "#gen/runtime/v1/api_pb.ts";
import { type ContainerSpecRequest, containerSpec } from "./container-spec.ts";
import { defaultCapabilities, defaultSpec } from "./default-spec.ts";
import type { HostMount } from "./mounts.ts";

type Config = Exclude<MessageInitShape<typeof ContainerConfigSchema>, { $typeName: string }>;
type Pod = Exclude<MessageInitShape<typeof PodSandboxConfigSchema>, { $typeName: string }>;

const all = [...defaultCapabilities, "CAP_SYS_ADMIN"];

function request(config: Config, pod: Pod = {}, more: Partial<ContainerSpecRequest> = {}): ContainerSpecRequest {
  return {
    id: "c1",
    sandboxId: "s1",
    config: create(ContainerConfigSchema, { metadata: { name: "main" }, ...config }),
    pod: create(PodSandboxConfigSchema, {
      metadata: { name: "pod", namespace: "ns", uid: "u" },
      hostname: "podhost",
      linux: { cgroupParent: "/kubepods/p" },
      ...pod,
    }),
    image: {
      user: "",
      env: ["A=image", "PATH=/image"],
      entrypoint: ["/entry"],
      cmd: [],
      workingDirectory: "/work",
      volumes: [],
      labels: {},
      stopSignal: "",
    },
    imageName: "registry/image:1",
    runtime: {
      baseSpec: undefined,
      isCgroupWritable: false,
      privilegedWithoutHostDevices: false,
      privilegedMayUseAllDevices: false,
      podAnnotations: ["pass.*"],
      containerAnnotations: [],
    },
    machine: {
      namespace: "k8s.io",
      hostname: "node",
      architecture: "x64",
      hasUnifiedCgroups: true,
      capabilities: all,
      hasOwnPtrace: true,
      cgroupOptions: ["nsdelegate", "rw"],
      hasSwap: true,
      hasHugetlb: false,
      disableHugetlb: true,
      tolerateMissingHugetlb: true,
      oomScoreAdjMin: undefined,
    },
    user: { uid: 1, gid: 2 },
    labels: { process: "", mount: "" },
    mounts: [],
    canRecursiveReadOnly: true,
    devices: [],
    blockIo: undefined,
    hostDevices: [{ path: "/dev/kvm", type: "c", major: 10, minor: 232 }],
    givesDevicesAway: false,
    disableProcMount: false,
    seccomp: { kind: "none" },
    apparmorProfile: "",
    sandboxPid: 11,
    targetPid: 12,
    ...more,
  };
}

function hostMount(mount: MessageInitShape<typeof MountSchema>, fields: string[] = []): HostMount {
  const made = create(MountSchema, mount);
  return { mount: made, source: made.hostPath, below: { mountPoint: "/", optionalFields: fields } };
}

test("labels of SELinux stand where the runtime looks for them, and are the base specification's never", () => {
  const labels = { process: "u:r:t:s0:c1,c2", mount: "u:o:f:s0:c1,c2" };
  const spec = containerSpec(request({}, {}, { labels }));
  assert.equal(spec.process?.selinuxLabel, labels.process);
  assert.equal(spec.linux?.mountLabel, labels.mount);
  const none = containerSpec(request({}, {}, {}));
  assert.ok(!("selinuxLabel" in (none.process ?? {})) && !("mountLabel" in (none.linux ?? {})));
});

test("a class of block I/O stands among the resources", () => {
  const blockIo = { weight: 30, throttleReadBpsDevice: [{ major: 8, minor: 0, rate: 5 }] };
  assert.deepEqual(containerSpec(request({}, {}, { blockIo })).linux?.resources?.blockIO, blockIo);
  assert.ok(!("blockIO" in (containerSpec(request({})).linux?.resources ?? {})));
});

test("a container that asks for nothing gets what containerd gives it", () => {
  const spec = containerSpec(request({}));
  assert.deepEqual(spec.root, { path: "rootfs" });
  assert.deepEqual(spec.process?.args, ["/entry"]);
  assert.deepEqual(spec.process?.env, ["PATH=/image", "HOSTNAME=podhost", "A=image"]);
  assert.equal(spec.process?.cwd, "/work");
  assert.equal(spec.process?.noNewPrivileges, false);
  assert.deepEqual(spec.process?.user, { uid: 1, gid: 2 });
  assert.equal(spec.process?.rlimits, undefined);
  assert.deepEqual(spec.process?.capabilities, {
    bounding: [...defaultCapabilities],
    effective: [...defaultCapabilities],
    permitted: [...defaultCapabilities],
  });
  assert.equal(spec.linux?.cgroupsPath, "/kubepods/p/c1");
  assert.deepEqual(spec.linux?.maskedPaths, []);
  assert.deepEqual(
    spec.linux?.namespaces?.map(({ type }) => type),
    ["pid", "ipc", "uts", "mount", "network", "cgroup"],
  );
  assert.equal(spec.linux?.seccomp, undefined);
  assert.deepEqual(
    spec.mounts?.map(({ destination }) => destination),
    ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup"],
  );
  assert.deepEqual(spec.mounts?.at(-1)?.options, ["nosuid", "noexec", "nodev", "relatime", "ro"]);
});

test("annotations name the pod, and pass on those that the runtime wants", () => {
  const { annotations } = containerSpec(request({}, { annotations: { "pass.me": "1", other: "2" } }));
  assert.deepEqual(annotations, {
    "pass.me": "1",
    "io.kubernetes.cri.sandbox-id": "s1",
    "io.kubernetes.cri.sandbox-namespace": "ns",
    "io.kubernetes.cri.sandbox-uid": "u",
    "io.kubernetes.cri.sandbox-name": "pod",
    "io.kubernetes.cri.container-name": "main",
    "io.kubernetes.cri.image-name": "registry/image:1",
    "io.kubernetes.cri.container-type": "container",
  });
});

test("the process is as the configuration says", () => {
  const { process, root } = containerSpec(
    request({
      command: ["/bin/sh"],
      args: ["-c", "true"],
      workingDir: "/own",
      tty: true,
      envs: [{ key: "A", value: Buffer.from("own") }],
      linux: { securityContext: { noNewPrivs: true, readonlyRootfs: true }, resources: { oomScoreAdj: 5n } },
    }),
  );
  assert.deepEqual(process?.args, ["/bin/sh", "-c", "true"]);
  assert.equal(process?.cwd, "/own");
  assert.equal(process?.terminal, true);
  assert.deepEqual(process?.env, ["PATH=/image", "TERM=xterm", "HOSTNAME=podhost", "A=own"]);
  assert.equal(process?.noNewPrivileges, true);
  assert.equal(process?.oomScoreAdj, 5);
  assert.deepEqual(root, { path: "rootfs", readonly: true });
});

test("a privileged container is held back by nothing, if its pod may have one", () => {
  const privileged = { linux: { securityContext: { privileged: true, maskedPaths: ["/proc/kcore"] } } };
  assert.throws(() => containerSpec(request(privileged)), {
    message: "failed to generate spec opts: no privileged container allowed in sandbox",
  });
  const spec = containerSpec(request(privileged, privileged));
  assert.deepEqual(spec.process?.capabilities?.bounding, all);
  assert.equal(spec.linux?.maskedPaths, undefined);
  assert.deepEqual(spec.linux?.resources?.devices, [{ allow: true, access: "rwm" }]);
  assert.equal(spec.linux?.devices?.[0]?.path, "/dev/kvm");
  assert.equal(
    spec.linux?.namespaces?.some(({ type }) => type === "cgroup"),
    false,
  );
  const options = Object.fromEntries((spec.mounts ?? []).map((mount) => [mount.destination, mount.options]));
  assert.ok(options["/sys"]?.includes("rw"));
  assert.deepEqual(options["/sys/fs/cgroup"], ["nosuid", "noexec", "nodev", "relatime", "rw", "nsdelegate"]);
  const runtime = { ...request({}).runtime, privilegedWithoutHostDevices: true };
  const without = containerSpec(request(privileged, privileged, { runtime }));
  assert.equal(without.linux?.devices, undefined);
  assert.deepEqual(without.linux?.resources?.devices, [{ allow: false, access: "rwm" }]);
});

test("a base specification keeps its limits, filter and hooks", () => {
  const baseSpec = defaultSpec({ namespace: "x", id: "y" });
  baseSpec.process = { ...(baseSpec.process ?? { cwd: "/", user: { uid: 0, gid: 0 } }), apparmorProfile: "base" };
  baseSpec.linux = { ...baseSpec.linux, seccomp: { defaultAction: "SCMP_ACT_LOG" } };
  baseSpec.hooks = { prestart: [{ path: "/hook" }] };
  const runtime = { ...request({}).runtime, baseSpec };
  const spec = containerSpec(request({}, { linux: {} }, { runtime }));
  assert.equal(spec.process?.rlimits?.[0]?.type, "RLIMIT_NOFILE");
  assert.equal(spec.process?.apparmorProfile, "base");
  assert.deepEqual(spec.linux?.seccomp, { defaultAction: "SCMP_ACT_LOG" });
  assert.deepEqual(spec.hooks, baseSpec.hooks);
  assert.equal(spec.linux?.cgroupsPath, "/k8s.io/c1");
  const kept = containerSpec(request({}, {}, { runtime, disableProcMount: true }));
  assert.ok((kept.linux?.maskedPaths?.length ?? 0) > 0);
});

test("the filter follows the capabilities", () => {
  const add = { capabilities: { addCapabilities: ["SYS_ADMIN"] } };
  const spec = containerSpec(request({ linux: { securityContext: add } }, {}, { seccomp: { kind: "default" } }));
  assert.ok(spec.linux?.seccomp?.syscalls?.some(({ names }) => names.includes("mount")));
  const own = containerSpec(request({}, {}, { seccomp: { defaultAction: "SCMP_ACT_ALLOW" } }));
  assert.deepEqual(own.linux?.seccomp, { defaultAction: "SCMP_ACT_ALLOW" });
});

test("own mounts take the place of those that every container has, shallow ones first", () => {
  const mounts = [
    hostMount({ hostPath: "/b", containerPath: "/data/deep", readonly: true }),
    hostMount({ hostPath: "/a", containerPath: "/data/" }),
    hostMount({ hostPath: "/dev", containerPath: "/dev" }),
  ];
  const spec = containerSpec(request({}, {}, { mounts }));
  assert.deepEqual(
    spec.mounts?.slice(-3).map(({ destination, options }) => [destination, ...(options ?? [])]),
    [
      ["/data/", "rbind", "rprivate", "rw"],
      ["/dev", "rbind", "rprivate", "rw"],
      ["/data/deep", "rbind", "rprivate", "ro"],
    ],
  );
  assert.equal(
    spec.mounts?.some(({ destination }) => destination.startsWith("/dev/")),
    false,
  );
});

test("mounts pass on what is mounted in them as far as the machine does", () => {
  const { PROPAGATION_BIDIRECTIONAL: both, PROPAGATION_HOST_TO_CONTAINER: down } = MountPropagation;
  const place = { hostPath: "/a", containerPath: "/a" };
  const specOf = (...mounts: HostMount[]) => containerSpec(request({}, {}, { mounts }));
  const spec = specOf(
    hostMount({ ...place, propagation: both }, ["shared:1"]),
    hostMount({ ...place, propagation: down }, ["master:1"]),
  );
  assert.equal(spec.linux?.rootfsPropagation, "rshared");
  assert.equal(specOf(hostMount({ ...place, propagation: down }, ["shared:1"])).linux?.rootfsPropagation, "rslave");
  assert.throws(() => specOf(hostMount({ ...place, propagation: both }, ["master:1"])), {
    message: 'path "/a" is mounted on "/" but it is not a shared mount',
  });
  assert.throws(() => specOf(hostMount({ ...place, propagation: down })), {
    message: 'path "/a" is mounted on "/" but it is not a shared or slave mount',
  });
});

test("all below a mount is read-only where the runtime can, and the wishes fit", () => {
  const specOf = (
    mount: Exclude<MessageInitShape<typeof MountSchema>, { $typeName: string }>,
    canRecursiveReadOnly = true,
  ) =>
    containerSpec(
      request(
        {},
        {},
        {
          mounts: [hostMount({ hostPath: "/a", containerPath: "/a", recursiveReadOnly: true, ...mount }, ["shared:1"])],
          canRecursiveReadOnly,
        },
      ),
    );
  assert.deepEqual(specOf({ readonly: true }).mounts?.at(-1)?.options, ["rbind", "rprivate", "rro"]);
  assert.throws(() => specOf({ readonly: true }, false), /^FlotillaError: RROUnsupported: /);
  assert.throws(() => specOf({}), { message: 'recursive read-only mount conflicts with RW mount (hostPath="/a")' });
  assert.throws(() => specOf({ readonly: true, propagation: MountPropagation.PROPAGATION_HOST_TO_CONTAINER }), {
    message: 'recursive read-only mount needs private propagation, got "PROPAGATION_HOST_TO_CONTAINER" (hostPath="/a")',
  });
});

test("a pod with users of its own on the machine's network gets the machine's /sys", () => {
  const mapping = [{ hostId: 65536, containerId: 0, length: 10 }];
  const namespaceOptions = {
    network: NamespaceMode.NODE,
    usernsOptions: { mode: NamespaceMode.POD, uids: mapping, gids: mapping },
  };
  const spec = containerSpec(
    request({ linux: { securityContext: { namespaceOptions } } }, { linux: { securityContext: { namespaceOptions } } }),
  );
  assert.deepEqual(spec.mounts?.find(({ destination }) => destination === "/sys")?.options, [
    "rbind",
    "rro",
    "nosuid",
    "nodev",
    "noexec",
  ]);
  assert.throws(
    () => containerSpec(request({ linux: { securityContext: { namespaceOptions } } })),
    /^FlotillaError: failed to generate spec opts: user namespace config for sandbox is different from container/,
  );
});

test("devices come with the right to use them, and belong to the user where that is wished", () => {
  const devices = [{ devices: [{ path: "/dev/x", type: "c", major: 1, minor: 2, uid: 0, gid: 0 }], permissions: "rw" }];
  const own = { linux: { securityContext: { runAsUser: { value: 7n } } } };
  const spec = containerSpec(request(own, {}, { devices, givesDevicesAway: true }));
  assert.deepEqual(spec.linux?.devices, [{ path: "/dev/x", type: "c", major: 1, minor: 2, uid: 7, gid: 0 }]);
  assert.deepEqual(spec.linux?.resources?.devices, [
    { allow: false, access: "rwm" },
    { allow: true, type: "c", major: 1, minor: 2, access: "rw" },
  ]);
});
