import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { chmod, mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { execa } from "execa";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { ContainerState, NamespaceMode } from "#gen/runtime/v1/api_pb.ts";
import { CriRig, cniDirectory, nothingLeft, podConfig } from "../kit/cri-rig.ts";
import { until } from "../kit/processes.ts";
import { makeTemporaryDirectory, type TemporaryDirectory } from "../kit/temporary-directory.ts";

/**
 * Checkpoints of containers. CRIU does not work on every kernel, so that a program stands in for it and for the part of runc that calls it: it writes what
 * they would write where they are told to. All else is real.
 */

const skip = existsSync(`${cniDirectory}/loopback`)
  ? false
  : "pods need the programs of CNI (containernetworking-plugins)";
const standIn = `#!/bin/sh
for word; do
  case "$previous" in --image-path) images=$word ;; --work-path) work=$word ;; esac
  [ "$word" = checkpoint ] && isCheckpoint=1
  previous=$word
done
[ -z "$isCheckpoint" ] && exec runc "$@"
case "$*" in *--leave-running*) ;; *) echo "it would end" >&2; exit 1 ;; esac
echo pages > "$images/pages-1.img"
echo log > "$work/dump.log"
echo stats > "$work/stats-dump"
`;

let programs: TemporaryDirectory;
let rig: CriRig;

before(async () => {
  if (skip !== false) {
    return;
  }
  programs = await makeTemporaryDirectory("criu");
  const { path } = programs;
  for (const [name, text] of [
    ["criu", "#!/bin/sh\necho 'Version: 3.17.1'\n"],
    ["runtime", standIn],
  ] as const) {
    await writeFile(`${path}/${name}`, text);
    await chmod(`${path}/${name}`, 0o755);
  }
  rig = await CriRig.start({
    network: "",
    env: { PATH: `${path}:${process.env["PATH"]}` },
    runtime: `[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]\n  BinaryName = "${path}/runtime"`,
  });
  await mkdir(`${rig.directory}/logs`);
});
after(async () => {
  await rig?.[Symbol.asyncDispose]();
  await programs?.[Symbol.asyncDispose]();
});

test("a running container is written down and goes on", { skip }, async () => {
  const config = podConfig({
    hostname: "",
    logDirectory: `${rig.directory}/logs`,
    linux: { securityContext: { namespaceOptions: { network: NamespaceMode.NODE } } },
  });
  const { podSandboxId } = await rig.runtime.runPodSandbox({ config });
  const { containerId } = await rig.runtime.createContainer({
    podSandboxId,
    sandboxConfig: config,
    config: {
      metadata: { name: "counting" },
      image: { image: "busybox:test" },
      command: ["sh", "-c", "echo said; echo changed > /new; while :; do date > /dev/null; sleep 0.1; done"],
      logPath: "counting.log",
    },
  });
  const location = `${rig.directory}/checkpoint.tar`;
  const checkpoint = () => rig.runtime.checkpointContainer({ containerId, location });
  await assert.rejects(checkpoint(), {
    message: `container "${containerId}" is in CONTAINER_CREATED state. only CONTAINER_RUNNING containers can be checkpointed`,
  });
  await rig.runtime.startContainer({ containerId });
  await until(
    () => readFile(`${rig.directory}/logs/counting.log`, "utf8").then((text) => text.includes("said")),
    () => "the container has said nothing",
  );
  // Once more over what is there.
  await checkpoint();
  await checkpoint();
  assert.equal((await stat(location)).mode & 0o777, 0o600);
  const read = async (name: string): Promise<string> =>
    (await execa("tar", ["--extract", "--to-stdout", `--file=${location}`, name])).stdout;
  const { stdout: listed } = await execa("tar", ["--list", `--file=${location}`]);
  assert.deepEqual(listed.split("\n").toSorted(), [
    "checkpoint/",
    "checkpoint/pages-1.img",
    "config.dump",
    "container.log",
    "dump.log",
    "rootfs-diff.tar",
    "spec.dump",
    "stats-dump",
    "status",
    "status.dump",
  ]);
  const { name, rootfsImageName, runtime, restored, checkpointedTime } = JSON.parse(await read("config.dump"));
  assert.deepEqual(
    { name, rootfsImageName, runtime, restored },
    {
      name: `counting_${config.metadata?.name}_default_${config.metadata?.uid}_0`,
      rootfsImageName: "docker.io/library/busybox:test",
      runtime: "io.containerd.runc.v2",
      restored: false,
    },
  );
  assert.ok(Math.abs(Date.parse(checkpointedTime) - Date.now()) < 60_000);
  assert.equal(await read("checkpoint/pages-1.img"), "pages");
  assert.match(await read("container.log"), / stdout F said$/m);
  assert.equal(JSON.parse(await read("status.dump")).metadata.name, "counting");
  assert.equal(JSON.parse(await read("spec.dump")).process.args[0], "sh");
  assert.equal(JSON.parse(await read("status")).Version, "v1");
  const { stdout: changes } = await execa("sh", [
    "-c",
    `tar --extract --to-stdout --file=${location} rootfs-diff.tar | tar --list --gzip`,
  ]);
  assert.ok(changes.split("\n").includes("new"), changes);
  const restore = { metadata: { name: "restored" }, image: { image: location } };
  await assert.rejects(rig.runtime.createContainer({ podSandboxId, sandboxConfig: config, config: restore }), {
    message: "checkpoint restore via CreateContainer is disabled by configuration",
  });
  const { status } = await rig.runtime.containerStatus({ containerId });
  assert.equal(status?.state, ContainerState.CONTAINER_RUNNING);
  const { stdout } = await rig.runtime.execSync({ containerId, cmd: ["cat", "/new"], timeout: 10n });
  assert.equal(Buffer.from(stdout).toString(), "changed\n");
  await rig.runtime.stopPodSandbox({ podSandboxId });
  await rig.runtime.removePodSandbox({ podSandboxId });
  assert.deepEqual(await rig.leftovers(), nothingLeft);
});

test("what is no container can't be written down", { skip }, async () => {
  await assert.rejects(
    rig.runtime.checkpointContainer({ containerId: "nobody", location: `${rig.directory}/nobody.tar` }),
    (error) => isFailure(error, ErrorKind.NotFound) && error.message.includes('find container "nobody"'),
  );
});
