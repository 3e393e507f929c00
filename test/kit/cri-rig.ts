import assert from "node:assert/strict";
import { globSync } from "node:fs";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Client, createClient } from "@connectrpc/connect";
import { execa } from "execa";
import { ImageService, type PodSandboxConfigSchema, RuntimeService } from "#gen/runtime/v1/api_pb.ts";
import { isNamespace, makeNetworkNamespace, releaseNamespace, switchLoopbackOn } from "#linux/network-namespace.ts";
import { type Daemon, startContainerd, startFlotilla } from "./daemon.ts";
import { busyboxImage, pauseImage } from "./image.ts";
import { makeTemporaryDirectory, type TemporaryDirectory } from "./temporary-directory.ts";

/** Where Debian has the programs of CNI. */
export const cniDirectory = "/usr/lib/cni";

/** A configuration of a pod, as tests write it. */
export type PodConfig = Omit<MessageInitShape<typeof PodSandboxConfigSchema>, "$typeName" | "$unknown">;

/** How a rig is made. */
export interface CriRigOptions {
  /** Lines of TOML for the table `io.containerd.cri.v1.runtime`. */
  readonly runtime?: string;
  /** Lines of TOML for its table `cni`. */
  readonly cni?: string;
  /** The network of pods; one of two versions of IP, with mapped ports, unless given; "" for none. */
  readonly network?: string;
  /** Further environment variables of a daemon of ours. */
  readonly env?: Readonly<Record<string, string>>;
  /** Which daemon serves; a containerd takes the other settings from nowhere. */
  readonly daemon?: "flotilla" | "containerd";
}

/**
 * A daemon that serves the kubelet in a network namespace of its own, so that bridges, addresses and rules that pods make are
 * gone with it.
 */
export class CriRig implements AsyncDisposable {
  readonly daemon: Daemon;
  readonly directory: string;
  /** Path of the namespace that plays the machine. */
  readonly machine: string;
  readonly runtime: Client<typeof RuntimeService>;
  readonly images: Client<typeof ImageService>;
  readonly #temporary: TemporaryDirectory;

  private constructor(daemon: Daemon, temporary: TemporaryDirectory, machine: string) {
    this.daemon = daemon;
    this.#temporary = temporary;
    this.directory = temporary.path;
    this.machine = machine;
    this.runtime = createClient(RuntimeService, daemon.transport);
    this.images = createClient(ImageService, daemon.transport);
  }

  /** Starts a daemon that has the images `pause` and `busybox`. */
  static async start({
    runtime = "",
    cni = "",
    network,
    env = {},
    daemon: which = "flotilla",
  }: CriRigOptions = {}): Promise<CriRig> {
    await using resources = new AsyncDisposableStack();
    const temporary = resources.use(await makeTemporaryDirectory("cri"));
    const { path } = temporary;
    const machine = `${path}/machine`;
    await makeNetworkNamespace(machine);
    resources.defer(() => releaseNamespace(machine));
    switchLoopbackOn(machine);
    await mkdir(`${path}/net.d`);
    const text = network ?? dualStackNetwork(path);
    if (text !== "") {
      await writeFile(`${path}/net.d/10-test.conflist`, text);
    }
    const shared = { cri: true, networkNamespace: machine };
    const daemon = resources.use(
      which === "flotilla"
        ? await startFlotilla({ ...shared, env, config: flotillaConfig(path, { runtime, cni }) })
        : await startContainerd({ ...shared, config: containerdConfig(path) }),
    );
    for (const image of [await pauseImage(), await busyboxImage()]) {
      const { exitCode, stderr } = await daemon.ctr("-n", "k8s.io", "images", "import", image.tar);
      assert.equal(exitCode, 0, stderr);
    }
    const rig = new CriRig(daemon, temporary, machine);
    resources.move();
    return rig;
  }

  /** Runs a program in the network of the machine. @returns What it printed. */
  async onMachine(...command: readonly string[]): Promise<string> {
    return (await execa("nsenter", [`--net=${this.machine}`, "--", ...command])).stdout;
  }

  /** Names of the network namespaces of pods. */
  async podNamespaces(): Promise<string[]> {
    const directory = `${this.daemon.state}/io.containerd.grpc.v1.cri/netns`;
    const names = await readdir(directory).catch(() => []);
    return names.filter((name) => isNamespace(`${directory}/${name}`));
  }

  /** Addresses that pods hold. */
  async addresses(): Promise<string[]> {
    const names = await readdir(`${this.directory}/ipam/test`).catch(() => []);
    return names.filter((name) => /^[\da-f.:]+$/.test(name));
  }

  /** What pods have left: namespaces, addresses, interfaces, rules, directories, results of CNI, records. */
  async leftovers(): Promise<Record<string, readonly string[]>> {
    const grpc = "io.containerd.grpc.v1.cri";
    const list = (path: string): Promise<string[]> => readdir(path).catch(() => []);
    const { daemon } = this;
    const told = async (...args: string[]): Promise<string[]> => {
      const { stdout } = await daemon.ctr("-n", "k8s.io", ...args);
      return stdout.split("\n").filter((line) => line !== "");
    };
    return {
      namespaces: await this.podNamespaces(),
      addresses: await this.addresses(),
      interfaces: (await this.onMachine("ip", "-o", "link")).split("\n").filter((line) => line.includes("veth")),
      rules: (await this.onMachine("iptables-save", "-t", "nat"))
        .split("\n")
        .filter((line) => /CNI-DN-|CNI-[\da-f]{20}/.test(line)),
      files: await list(`${daemon.root}/${grpc}/sandboxes`),
      state: await list(`${daemon.state}/${grpc}/sandboxes`),
      results: await this.#networkResults(),
      containers: await told("containers", "ls", "-q"),
      tasks: await told("tasks", "ls", "-q"),
      leases: await told("leases", "ls", "-q"),
    };
  }

  /** Results of CNI programs for pods of this daemon, in the cache that all of the machine share. */
  async #networkResults(): Promise<string[]> {
    const paths = globSync("/var/lib/cni/results/*");
    const texts = await Promise.all(paths.map((path) => readFile(path, "utf8").catch(() => "")));
    return paths.filter((_, index) => texts[index]?.includes(`"netns":"${this.daemon.state}/`));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { items } = await this.runtime.listPodSandbox({}).catch(() => ({ items: [] }));
    for (const { id } of items) {
      await this.runtime.removePodSandbox({ podSandboxId: id }).catch(() => undefined);
    }
    await this.daemon[Symbol.asyncDispose]();
    // Those of pods that nobody could remove.
    await Promise.all((await this.#networkResults()).map((path) => rm(path, { force: true })));
    await releaseNamespace(this.machine);
    await this.#temporary[Symbol.asyncDispose]();
  }
}

function flotillaConfig(path: string, { runtime, cni }: Required<Pick<CriRigOptions, "runtime" | "cni">>): string {
  return `
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "docker.io/library/pause:test"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  cdi_spec_dirs = ["${path}/cdi"]
  ${runtime}
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["${path}/bin", "${cniDirectory}"]
  conf_dir = "${path}/net.d"
  ${cni}
[plugins."io.containerd.nri.v1.nri"]
  socket_path = "${path}/nri.sock"
  plugin_path = "${path}/nri-plugins"
  plugin_config_path = "${path}/nri-conf"
`;
}

/** In the tables of version 2, which containerd 1.6 reads and later ones migrate. */
function containerdConfig(path: string): string {
  return `
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/library/pause:test"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "${cniDirectory}"
  conf_dir = "${path}/net.d"
[plugins."io.containerd.nri.v1.nri"]
  disable = true
`;
}

/** Nothing of what {@link CriRig.leftovers} tells. */
export const nothingLeft = {
  namespaces: [],
  addresses: [],
  interfaces: [],
  rules: [],
  files: [],
  state: [],
  results: [],
  containers: [],
  tasks: [],
  leases: [],
} as const;

/** A bridge with both versions of IP and mapped ports. @param directory - Where leases of addresses are kept. */
export function dualStackNetwork(directory: string): string {
  return JSON.stringify({
    cniVersion: "1.0.0",
    name: "test",
    plugins: [
      {
        type: "bridge",
        bridge: "cni0",
        isGateway: true,
        ipMasq: true,
        hairpinMode: true,
        ipam: {
          type: "host-local",
          dataDir: `${directory}/ipam`,
          ranges: [[{ subnet: "10.88.0.0/16" }], [{ subnet: "fd42:88::/64" }]],
          routes: [{ dst: "0.0.0.0/0" }, { dst: "::/0" }],
        },
      },
      { type: "portmap", capabilities: { portMappings: true } },
    ],
  });
}

let podNumber = 0;

/** A configuration of a pod with a name that no other has. */
export function podConfig(config: PodConfig = {}): PodConfig {
  podNumber += 1;
  return {
    metadata: { name: `pod-${podNumber}`, namespace: "default", uid: `uid-${podNumber}`, attempt: 0 },
    hostname: `pod-${podNumber}`,
    logDirectory: "",
    ...config,
  };
}
