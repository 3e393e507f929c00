import assert from "node:assert/strict";
import { chmod, mkdir, readFile, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import test, { type TestContext } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { openLog } from "#fleet/log.ts";
import { NotedDeprecations } from "#fleet/noted-deprecations.ts";
import {
  type Container,
  ContainerAdjustmentSchema,
  ContainerState,
  Event,
  Plugin,
  type PodSandbox,
  Runtime,
} from "#gen/nri/pkg/api/v1alpha1/api_pb.ts";
import {
  ContainerConfigSchema,
  type LinuxContainerResources,
  LinuxContainerResourcesSchema,
  PodSandboxConfigSchema,
} from "#gen/runtime/v1/api_pb.ts";
import type { OciSpec } from "../../services/cri/containers/spec/oci-spec.ts";
import { NriMetrics } from "../../services/cri/metrics/nri-metrics.ts";
import type { NriContainer } from "../../services/cri/nri/describe.ts";
import { Nri, type NriOptions, type NriPorts } from "../../services/cri/nri/nri.ts";
import type { Pod } from "../../services/cri/store/pod.ts";
import { NriTestPlugin, type PluginHandlers } from "../kit/nri-plugin.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";

const pod = {
  id: "p1",
  config: create(PodSandboxConfigSchema, {
    metadata: { name: "pod", uid: "u1", namespace: "ns" },
    annotations: { note: "x" },
  }),
  runtimeHandler: "",
  netnsPath: "",
  ip: "10.0.0.2",
  additionalIps: [],
  pid: 7,
} as unknown as Pod;

function containerOf(id: string): NriContainer {
  return {
    id,
    podId: "p1",
    config: create(ContainerConfigSchema, { metadata: { name: `${id}-name` } }),
    labels: {},
    state: ContainerState.CONTAINER_RUNNING,
    pid: 8,
    createdAtNs: 1n,
    startedAtNs: 2n,
    finishedAtNs: 0n,
    exitCode: 0,
    reason: "",
    message: "",
  };
}

function makeSpec(): OciSpec {
  return {
    ociVersion: "1.2.0",
    process: { user: { uid: 0, gid: 0 }, cwd: "/", args: ["sh"], env: ["PATH=/bin", "OLD=1", "GONE=1"] },
    mounts: [
      { destination: "/proc", type: "proc", source: "proc" },
      { destination: "/data/deep", type: "bind", source: "/a" },
    ],
    annotations: { keep: "1", drop: "1" },
    linux: { cgroupsPath: "/pods/c1", resources: { cpu: { shares: 100 } } },
  };
}

interface Rig {
  readonly nri: Nri;
  readonly socketPath: string;
  readonly updates: [string, LinuxContainerResources][];
  readonly evicted: string[];
  readonly connect: (name: string, index: string, handlers: PluginHandlers, events?: number) => Promise<NriTestPlugin>;
}

async function startNri(
  t: TestContext,
  options: Partial<NriOptions> = {},
  ports: Partial<NriPorts> = {},
): Promise<Rig> {
  const directory = await makeTemporaryDirectory("nri");
  const socketPath = join(directory.path, "nri.sock");
  const updates: Rig["updates"] = [];
  const evicted: string[] = [];
  const nri = new Nri(
    {
      socketPath,
      pluginDirectory: join(directory.path, "none"),
      configDirectory: join(directory.path, "conf"),
      runtimeName: "containerd",
      runtimeVersion: "2.3.4",
      registrationMs: 2_000,
      requestMs: 1_000,
      validator: undefined,
      log: openLog("test", { level: "panic", format: "json" }),
      metrics: new NriMetrics(),
      deprecations: new NotedDeprecations(),
      ...options,
    },
    {
      list: () => ({ pods: [pod], containers: [containerOf("c0")] }),
      specOf: () => Promise.resolve(makeSpec()),
      specOfPod: () => Promise.resolve(undefined),
      updateResources: (id, resources) => {
        updates.push([id, resources]);
        return Promise.resolve();
      },
      evict: (id) => {
        evicted.push(id);
        return Promise.resolve();
      },
      injectCdiDevices: (spec, names) => {
        spec.annotations = { ...spec.annotations, cdi: names.join(",") };
        return Promise.resolve();
      },
      withoutHugepages: true,
      ...ports,
    },
  );
  await nri.start();
  t.after(async () => {
    await nri[Symbol.asyncDispose]();
    await directory[Symbol.asyncDispose]();
  });
  return {
    nri,
    socketPath,
    updates,
    evicted,
    connect: async (name, index, handlers, events) => {
      const plugin = await NriTestPlugin.connect(
        socketPath,
        { name, index, ...(events === undefined ? {} : { events }) },
        handlers,
      );
      t.after(() => plugin[Symbol.dispose]());
      await plugin.synchronized;
      // Its answer is still on its way.
      await new Promise((done) => setTimeout(done, 50));
      return plugin;
    },
  };
}

test("a plugin is configured, told of all that is there, and then of what happens, in its order", async (t) => {
  const { nri, connect } = await startNri(t);
  const told: string[] = [];
  const tell =
    (name: string, what: string) =>
    ({ pod: one, container }: { pod?: PodSandbox | undefined; container?: Container | undefined }) => {
      told.push(`${name} ${what} ${one?.id} ${container?.id ?? "-"}`);
      return {};
    };
  const handlersOf = (name: string): PluginHandlers => ({
    createContainer: () => ({}),
    ...Object.fromEntries(
      [
        "runPodSandbox",
        "startContainer",
        "postStartContainer",
        "stopContainer",
        "removeContainer",
        "stopPodSandbox",
      ].map((what) => [what, tell(name, what)]),
    ),
  });
  const second = await connect("b", "20", handlersOf("b"));
  await connect("a", "10", handlersOf("a"));
  const configure = await second.configured;
  assert.equal(configure.runtimeName, "containerd");
  assert.equal(configure.requestTimeout, 1000n);
  const { pods, containers } = await second.synchronized;
  assert.deepEqual(
    [pods[0]?.name, pods[0]?.ips, containers[0]?.id, containers[0]?.args],
    ["pod", ["10.0.0.2"], "c0", ["sh"]],
  );

  await nri.runPod(pod);
  const container = containerOf("c1");
  await nri.createContainer(pod, container, makeSpec());
  await nri.startContainer(pod, container);
  await nri.postStartContainer(pod, container);
  await nri.stopContainer(pod, container);
  await nri.stopContainer(pod, container);
  await nri.stopPod(pod);
  await nri.removeContainer(undefined, container);
  const order = ["runPodSandbox p1 -", "startContainer p1 c1", "postStartContainer p1 c1", "stopContainer p1 c1"];
  assert.deepEqual(
    told.filter((line) => !line.includes("removeContainer") && !line.includes("stopPod")),
    order.flatMap((line) => [`a ${line}`, `b ${line}`]),
  );
  assert.deepEqual(told.slice(-2), ["a removeContainer p1 c1", "b removeContainer p1 c1"]);
});

test("what plugins change of a container is put together and stands in its specification", async (t) => {
  const { nri, connect, updates, evicted } = await startNri(t);
  let seenBySecond: Container | undefined;
  await connect("one", "00", {
    createContainer: () => ({
      adjust: {
        annotations: { added: "1", "-drop": "" },
        env: [
          { key: "NEW", value: "2" },
          { key: "OLD", value: "3" },
          { key: "-GONE", value: "" },
        ],
        mounts: [
          { destination: "/data", type: "bind", source: "/b", options: ["rbind", "rslave"] },
          { destination: "-/proc" },
        ],
        args: ["", "sleep", "1"],
        hooks: { poststop: [{ path: "/bin/hook", args: ["hook"], timeout: { value: 3n } }] },
        rlimits: [{ type: "RLIMIT_NOFILE", hard: 10n, soft: 5n }],
        CDIDevices: [{ name: "vendor.com/class=dev" }],
        linux: {
          devices: [{ path: "/dev/x", type: "c", major: 1n, minor: 3n, uid: { value: 5 } }],
          resources: { cpu: { shares: { value: 512n }, cpus: "0" }, memory: { limit: { value: 1000n } } },
          oomScoreAdj: { value: -5n },
          namespaces: [{ type: "cgroup", path: "" }],
          sysctl: { "net.core.somaxconn": "10" },
        },
      },
      update: [{ containerId: "c0", linux: { resources: { cpu: { shares: { value: 7n } } } } }],
    }),
  });
  await connect("two", "01", {
    createContainer: ({ container }) => {
      seenBySecond = container;
      return {
        adjust: { linux: { resources: { unified: { "memory.high": "5" }, pids: { limit: 9n } } } },
        evict: [{ containerId: "c9", reason: "no room" }],
      };
    },
  });
  const spec = makeSpec();
  await nri.createContainer(pod, containerOf("c1"), spec);
  assert.deepEqual(seenBySecond?.env, ["PATH=/bin", "NEW=2", "OLD=3"]);
  assert.equal(seenBySecond?.linux?.resources?.cpu?.shares?.value, 512n);
  assert.deepEqual(spec.process?.env, ["PATH=/bin", "OLD=3", "NEW=2"]);
  assert.deepEqual(spec.process?.args, ["sleep", "1"]);
  assert.deepEqual(spec.process?.rlimits, [{ type: "RLIMIT_NOFILE", hard: 10n, soft: 5n }]);
  assert.equal(spec.process?.oomScoreAdj, -5);
  assert.deepEqual(spec.annotations, { keep: "1", added: "1", cdi: "vendor.com/class=dev" });
  assert.deepEqual(
    spec.mounts?.map(({ destination }) => destination),
    ["/data", "/data/deep"],
  );
  assert.equal(spec.linux?.rootfsPropagation, "rslave");
  assert.deepEqual(spec.hooks?.poststop, [{ path: "/bin/hook", args: ["hook"], timeout: 3 }]);
  assert.deepEqual(spec.linux?.devices, [{ path: "/dev/x", type: "c", major: 1, minor: 3, uid: 5 }]);
  assert.deepEqual(spec.linux?.resources, {
    cpu: { shares: 512n, cpus: "0" },
    memory: { limit: 1000n, swap: 1000n },
    unified: { "memory.high": "5" },
    pids: { limit: 9n },
    devices: [{ allow: true, type: "c", major: 1, minor: 3, access: "rw" }],
  });
  assert.deepEqual(spec.linux?.namespaces, [{ type: "cgroup" }]);
  assert.deepEqual(spec.linux?.sysctl, { "net.core.somaxconn": "10" });
  assert.deepEqual(
    updates.map(([id, { cpuShares }]) => [id, cpuShares]),
    [["c0", 7n]],
  );
  assert.deepEqual(evicted, ["c9"]);
});

test("two plugins may not change the same, unless the second removes first what the other set", async (t) => {
  const { nri, connect } = await startNri(t);
  const setting = (value: string) => ({ adjust: { env: [{ key: "A", value }] } });
  await connect("one", "00", { createContainer: () => setting("1") });
  let isPolite = false;
  await connect("two", "01", {
    createContainer: () =>
      isPolite
        ? {
            adjust: {
              env: [
                { key: "-A", value: "" },
                { key: "A", value: "2" },
              ],
            },
          }
        : setting("2"),
  });
  await assert.rejects(nri.createContainer(pod, containerOf("c1"), makeSpec()), {
    message: 'plugins "01-two" and "00-one" both tried to set Env A',
  });
  isPolite = true;
  const spec = makeSpec();
  await nri.createContainer(pod, containerOf("c1"), spec);
  assert.ok(spec.process?.env?.includes("A=2"));
});

test("a plugin changes what is asked for a container, and others besides", async (t) => {
  const { nri, connect, updates } = await startNri(t);
  await connect("one", "00", {
    updateContainer: ({ linuxResources }) => ({
      update: [
        { containerId: "c1", linux: { resources: { cpu: { cpus: `${linuxResources?.cpu?.cpus},3` } } } },
        { containerId: "c2", linux: { resources: { memory: { limit: { value: 5n } } } } },
      ],
    }),
  });
  const asked = create(LinuxContainerResourcesSchema, { cpuShares: 10n, cpusetCpus: "2", oomScoreAdj: 4n });
  const { cpuShares, cpusetCpus, oomScoreAdj } = await nri.updateContainer(pod, containerOf("c1"), asked);
  assert.deepEqual([cpuShares, cpusetCpus, oomScoreAdj], [10n, "2,3", 4n]);
  assert.deepEqual(
    updates.map(([id, { memoryLimitInBytes }]) => [id, memoryLimitInBytes]),
    [["c2", 5n]],
  );
});

test("a plugin changes containers by itself, and learns what could not be done", async (t) => {
  const { connect, evicted } = await startNri(
    t,
    {},
    {
      updateResources: (id) => (id === "bad" ? Promise.reject(new Error("no")) : Promise.resolve()),
    },
  );
  const plugin = await connect("one", "00", {});
  const resources = { cpu: { shares: { value: 1n } } };
  const { failed } = await plugin.runtime.unary(Runtime.method.updateContainers, {
    update: ["bad", "good"].map((containerId) => ({ containerId, linux: { resources } })),
    evict: [{ containerId: "c5", reason: "" }],
  });
  assert.deepEqual(
    failed.map(({ containerId }) => containerId),
    ["bad"],
  );
  assert.deepEqual(evicted, ["c5"]);
});

test("what a plugin says against a pod or a container is the answer to the kubelet", async (t) => {
  const { nri, connect } = await startNri(t);
  const told: string[] = [];
  const refuse = (): never => {
    throw new FlotillaError(ErrorKind.Unknown, "not here");
  };
  await connect("one", "00", {
    runPodSandbox: refuse,
    createContainer: refuse,
    stopPodSandbox: () => {
      told.push("stopped");
      return {};
    },
    removePodSandbox: () => {
      told.push("removed");
      return {};
    },
  });
  await assert.rejects(nri.runPod(pod), { message: "not here" });
  assert.deepEqual(told, ["stopped", "removed"]);
  await assert.rejects(nri.createContainer(pod, containerOf("c1"), makeSpec()), { message: "not here" });
});

test("a plugin that does not answer is let go of, and the call goes on", async (t) => {
  const { nri, connect } = await startNri(t, { requestMs: 200 });
  const plugin = await connect("slow", "00", { createContainer: () => new Promise(() => undefined) });
  await connect("quick", "01", { createContainer: () => ({ adjust: { annotations: { seen: "1" } } }) });
  const spec = makeSpec();
  await nri.createContainer(pod, containerOf("c1"), spec);
  assert.equal(spec.annotations?.["seen"], "1");
  await plugin.closed;
});

test("a plugin that does not register in time, or badly, is let go of", async (t) => {
  const { socketPath } = await startNri(t, { registrationMs: 200 });
  const { default: net } = await import("node:net");
  const silent = new NriTestPlugin(net.connect(socketPath), {});
  await silent.closed;
  for (const [name, index] of [
    ["bad name", "00"],
    ["name", "0"],
    ["name", "xx"],
  ] as const) {
    const plugin = new NriTestPlugin(net.connect(socketPath), {});
    await assert.rejects(plugin.register(name, index), /invalid plugin (?:name|index)/);
    await plugin.closed;
  }
});

test("a plugin is told of what it asked for alone, and one of old in its way", async (t) => {
  const deprecations = new NotedDeprecations();
  const { nri, connect } = await startNri(t, { deprecations });
  const told: string[] = [];
  const bit = (event: Event): number => 2 ** (event - 1);
  await connect(
    "old",
    "00",
    {
      stateChange: ({ event, pod: one }) => {
        told.push(`${event} ${one?.id}`);
        return {};
      },
    },
    bit(Event.STOP_POD_SANDBOX),
  );
  await nri.runPod(pod);
  assert.deepEqual(deprecations.all(), []);
  await nri.stopPod(pod);
  assert.deepEqual(
    deprecations.all().map(({ id }) => id),
    ["io.containerd.deprecation/nri-plugin-interface"],
  );
  // As when a pod is removed that has been stopped.
  await nri.stopPod(pod);
  assert.deepEqual(told.splice(0), [`${Event.STOP_POD_SANDBOX} p1`]);
  await connect(
    "older",
    "01",
    {
      stateChange: ({ event, pod: one }) => {
        told.push(`${event} ${one?.id}`);
        return {};
      },
    },
    bit(Event.REMOVE_POD_SANDBOX) + bit(Event.RUN_POD_SANDBOX),
  );
  await nri.runPod(pod);
  await nri.removePod(pod);
  assert.deepEqual(told, [`${Event.RUN_POD_SANDBOX} p1`, `${Event.REMOVE_POD_SANDBOX} p1`]);
});

test("plugins judge what others change, and so do we where it is configured", async (t) => {
  const validator = {
    rejectsHooks: true,
    rejectsRuntimeDefaultSeccomp: false,
    rejectsUnconfinedSeccomp: false,
    rejectsCustomSeccomp: false,
    rejectsNamespaces: true,
    rejectsSysctls: false,
    requiredPlugins: [] as string[],
    tolerateMissingAnnotation: "",
  };
  const { nri, connect } = await startNri(t, { validator });
  let adjust: MessageInitShape<typeof ContainerAdjustmentSchema> = {
    linux: { namespaces: [{ type: "net", path: "/x" }] },
  };
  await connect("one", "00", { createContainer: () => ({ adjust }) });
  const creating = (): Promise<void> => nri.createContainer(pod, containerOf("c1"), makeSpec());
  await assert.rejects(creating(), {
    message: 'validation error: attempted restricted namespace adjustment by plugin(s) "00-one" (namespace "net")',
  });
  adjust = { hooks: { prestart: [{ path: "/x" }] } };
  await assert.rejects(creating(), {
    message: 'validation error: plugin "00-one" attempted restricted OCI hook injection',
  });
  adjust = { annotations: { a: "1" } };
  await creating();
  let owner: string | undefined;
  await connect(
    "judge",
    "90",
    {
      validateContainerAdjustment: ({ owners, adjust: judged }) => {
        owner = owners?.owners["c1"]?.compound[1]?.owners["a"];
        return { reject: judged?.annotations["a"] === "1", reason: "no a" };
      },
    },
    2 ** (Event.VALIDATE_CONTAINER_ADJUSTMENT - 1),
  );
  await assert.rejects(creating(), { message: 'validator "90-judge" rejected container adjustment, reason: no a' });
  assert.equal(owner, "00-one");
});

test("plugins that are installed are started with their configuration, and end with us", async (t) => {
  const directory = await makeTemporaryDirectory("nri-installed");
  t.after(() => directory[Symbol.asyncDispose]());
  const pluginDirectory = join(directory.path, "plugins");
  const configDirectory = join(directory.path, "conf");
  const trace = join(directory.path, "trace");
  await mkdir(pluginDirectory);
  await mkdir(configDirectory);
  await writeFile(join(configDirectory, "hello.conf"), "what to do");
  const program = join(directory.path, "plugin.ts");
  const kit = resolve("test/kit/nri-plugin.ts");
  await writeFile(
    program,
    `import net from "node:net";
import { appendFileSync } from "node:fs";
const { NriTestPlugin } = await import(${JSON.stringify(kit)});
const { NRI_PLUGIN_NAME: name, NRI_PLUGIN_IDX: index, NRI_PLUGIN_SOCKET: fd } = process.env;
const plugin = new NriTestPlugin(new net.Socket({ fd: Number(fd) }), {
  runPodSandbox: ({ pod }: { pod: { id: string } }) => { appendFileSync(${JSON.stringify(trace)}, "ran " + pod.id + "\\n"); return {}; },
});
await plugin.register(name, index);
const { config } = await plugin.configured;
appendFileSync(${JSON.stringify(trace)}, index + "-" + name + " " + process.pid + " " + config + "\\n");
`,
  );
  const path = join(pluginDirectory, "05-hello");
  await writeFile(path, `#!/bin/sh\nexec ${process.execPath} ${program}\n`);
  await chmod(path, 0o755);
  await writeFile(join(pluginDirectory, "notes.txt"), "not a program");
  const { nri } = await startNri(t, { pluginDirectory, configDirectory, registrationMs: 20_000, requestMs: 10_000 });
  await nri.runPod(pod);
  const [first = "", second] = (await readFile(trace, "utf8")).split("\n");
  const [, pid = ""] = /^05-hello (\d+) what to do$/.exec(first) ?? [];
  assert.notEqual(pid, "", first);
  assert.equal(second, "ran p1");
  await nri[Symbol.asyncDispose]();
  const isAlive = (): boolean => {
    try {
      return process.kill(Number(pid), 0);
    } catch {
      return false;
    }
  };
  while (isAlive()) {
    await new Promise((done) => setTimeout(done, 20));
  }
});

test("without plugins nothing is asked of anybody", async (t) => {
  const { nri } = await startNri(t, {}, { specOf: assert.fail, specOfPod: assert.fail });
  const spec = makeSpec();
  await nri.runPod(pod);
  await nri.createContainer(pod, containerOf("c1"), spec);
  await nri.stopContainer(pod, containerOf("c1"));
  await nri.removeContainer(pod, containerOf("c1"));
  assert.deepEqual(spec, makeSpec());
  assert.equal(Plugin.typeName, "nri.pkg.api.v1alpha1.Plugin");
});
