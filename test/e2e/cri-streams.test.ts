import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdir, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { ErrorKind, isFailure } from "#base/errors.ts";
import {
  type ContainerConfigSchema,
  type ContainerEventResponse,
  ContainerEventType,
  ContainerState,
} from "#gen/runtime/v1/api_pb.ts";
import { CriRig, cniDirectory, type PodConfig, podConfig } from "../kit/cri-rig.ts";
import { NriTestPlugin } from "../kit/nri-plugin.ts";
import { until } from "../kit/processes.ts";
import { connectSpdy } from "../kit/spdy-client.ts";
import type { LocatedUrl } from "../kit/upgrade-client.ts";
import { connectWebSocket } from "../kit/websocket-client.ts";

/** Commands, clients that follow, forwarded ports, logs, events and plugins, with containers that run. */

const skip = existsSync(`${cniDirectory}/bridge`)
  ? false
  : "pods need the programs of CNI (containernetworking-plugins)";
let rig: CriRig;
let pod: PodConfig;
let podSandboxId: string;
let logDirectory: string;

before(async () => {
  if (skip !== false) {
    return;
  }
  rig = await CriRig.start();
  logDirectory = join(rig.directory, "logs");
  await mkdir(logDirectory);
  pod = podConfig({ logDirectory });
  ({ podSandboxId } = await rig.runtime.runPodSandbox({ config: pod }));
});
after(async () => {
  await rig?.[Symbol.asyncDispose]();
});

let containerNumber = 0;

async function createContainer(
  script: string,
  config: Partial<MessageInitShape<typeof ContainerConfigSchema>> = {},
): Promise<{ id: string; logPath: string }> {
  containerNumber += 1;
  const name = `container-${containerNumber}`;
  const { containerId: id } = await rig.runtime.createContainer({
    podSandboxId,
    sandboxConfig: pod,
    config: {
      metadata: { name },
      image: { image: "docker.io/library/busybox:test" },
      command: ["sh", "-c", script],
      logPath: `${name}.log`,
      linux: {},
      ...config,
    } as MessageInitShape<typeof ContainerConfigSchema>,
  });
  return { id, logPath: join(logDirectory, `${name}.log`) };
}

async function runContainer(...args: Parameters<typeof createContainer>): ReturnType<typeof createContainer> {
  const container = await createContainer(...args);
  await rig.runtime.startContainer({ containerId: container.id });
  return container;
}

async function ended(containerId: string): Promise<number> {
  let exitCode: number | undefined;
  await until(
    async () => {
      const { status } = await rig.runtime.containerStatus({ containerId });
      exitCode = status?.state === ContainerState.CONTAINER_EXITED ? status.exitCode : undefined;
      return exitCode !== undefined;
    },
    () => "the container has not ended",
    60_000,
  );
  return exitCode ?? -1;
}

/** What stands in a log, without times. */
async function linesOf(path: string): Promise<string[]> {
  const text = await readFile(path, "utf8").catch(() => "");
  return text
    .split("\n")
    .slice(0, -1)
    .map((line) => line.slice(line.indexOf(" ") + 1));
}

/** What is read of a pipe at a time. @source libuv src/unix/stream.c `uv__read` */
const pieceBytesMax = 64 * 1024;

const at = (url: string): LocatedUrl => ({ url, networkNamespace: rig.machine });
const everything = { stdin: true, stdout: true, stderr: true, tty: false };

test("a command gives its output and its exit code, and one that takes too long is killed", { skip }, async () => {
  const { id: containerId } = await runContainer("sleep 1000");
  const run = (script: string, timeout = 0n) =>
    rig.runtime.execSync({ containerId, cmd: ["sh", "-c", script], timeout });
  const { stdout, stderr, exitCode } = await run("echo out; echo err >&2; exit 3");
  assert.deepEqual([Buffer.from(stdout).toString(), Buffer.from(stderr).toString(), exitCode], ["out\n", "err\n", 3]);
  await assert.rejects(
    run("sleep 100", 1n),
    (error) =>
      isFailure(error, ErrorKind.DeadlineExceeded) &&
      error.message === "failed to exec in container: timeout 1s exceeded: context deadline exceeded",
  );
  const large = await run("head -c 3000000 /dev/zero");
  assert.equal(large.stdout.length, 3_000_000);
  await rig.runtime.stopContainer({ containerId, timeout: 0n });
  const message = "failed to exec in container: container is in CONTAINER_EXITED state";
  await assert.rejects(run("true"), (error) => isFailure(error, ErrorKind.Unknown) && error.message === message);
});

test("a command over SPDY gets its input until it ends, and over WebSocket its terminal", { skip }, async () => {
  const { id: containerId } = await runContainer("sleep 1000");
  const { url } = await rig.runtime.exec({
    containerId,
    cmd: ["sh", "-c", "cat; echo bad >&2; exit 4"],
    ...everything,
  });
  using client = await connectSpdy(at(url), "v4.channel.k8s.io");
  const [error, stdin, stdout, stderr] = await Promise.all(
    ["error", "stdin", "stdout", "stderr"].map((streamtype) => client.open({ streamtype })),
  );
  const megabyte = "x".repeat(1024 * 1024);
  await stdin?.write(megabyte);
  await stdin?.end();
  assert.equal(await stdout?.readAll(), megabyte);
  assert.equal(await stderr?.readAll(), "bad\n");
  assert.match((await error?.readAll()) ?? "", /"ExitCode","message":"4"/);

  const terminal = await rig.runtime.exec({
    containerId,
    cmd: ["sh", "-c", "read x; stty size; tty; exit 5"],
    ...everything,
    stderr: false,
    tty: true,
  });
  using socket = await connectWebSocket(at(terminal.url), "v5.channel.k8s.io");
  const output: string[] = ["", "", "", ""];
  socket.onMessage(({ bytes }) => {
    output[bytes[0] ?? 0] += bytes.toString("utf8", 1);
  });
  await socket.send(Buffer.from('\x04{"Width":132,"Height":43}'));
  await new Promise((resolve) => setTimeout(resolve, 300));
  await socket.send(Buffer.from("\x00\n"));
  assert.equal(await socket.closed, 1000);
  assert.match(output[1] ?? "", /43 132\r\n\/dev\/pts\/\d/);
  assert.match(output[3] ?? "", /"ExitCode","message":"5"/);
});

test("clients follow a container, and the end of the first one's input is its own where it is so set", {
  skip,
}, async () => {
  const script = "while read line; do echo got $line; done; echo bye";
  const { id: containerId, logPath } = await runContainer(script, { stdin: true, stdinOnce: true });
  const watching = await rig.runtime.attach({ containerId, ...everything, stdin: false });
  using watcher = await connectSpdy(at(watching.url), "v4.channel.k8s.io");
  const [, watched] = [await watcher.open({ streamtype: "error" }), await watcher.open({ streamtype: "stdout" })];
  await watcher.open({ streamtype: "stderr" });
  const { url } = await rig.runtime.attach({ containerId, ...everything });
  using client = await connectWebSocket(at(url), "v5.channel.k8s.io");
  let output = "";
  client.onMessage(({ bytes }) => {
    output += bytes[0] === 1 ? bytes.toString("utf8", 1) : "";
  });
  await client.send(Buffer.from("\x00one\ntwo\n"));
  await client.send(Buffer.from([255, 0]));
  assert.equal(await client.closed, 1000);
  assert.equal(output, "got one\ngot two\nbye\n");
  assert.equal(await watched.readAll(), "got one\ngot two\nbye\n");
  assert.equal(await ended(containerId), 0);
  assert.deepEqual(await linesOf(logPath), ["stdout F got one", "stdout F got two", "stdout F bye"]);
});

test("ports of a pod are forwarded from within its network", { skip }, async () => {
  await runContainer("while :; do echo hello | nc -l -p 8080; done");
  const { url } = await rig.runtime.portForward({ podSandboxId, port: [8080] });
  using client = await connectSpdy(at(url), "portforward.k8s.io");
  let requestid = 0;
  const ask = async (port: string): Promise<string[]> => {
    requestid += 1;
    const headers = { port, requestid: String(requestid) };
    const error = await client.open({ streamtype: "error", ...headers });
    const data = await client.open({ streamtype: "data", ...headers });
    await data.end();
    return await Promise.all([data.readAll(), error.readAll()]);
  };
  await until(
    async () => (await ask("8080"))[0] === "hello\n",
    () => "nobody listens",
    20_000,
  );
  const [, refused = ""] = await ask("9");
  assert.match(refused, /^error forwarding port 9 to pod .*: failed to connect to localhost:9 inside namespace/);
});

test("a log goes on in a new file when it was moved away", { skip }, async () => {
  const { id: containerId, logPath } = await runContainer("i=0; while sleep 0.1; do i=$((i+1)); echo $i; done");
  const has = (path: string, count: number) => async () => (await linesOf(path)).length >= count;
  await until(has(logPath, 3), () => "nothing is logged", 20_000);
  await rename(logPath, `${logPath}.1`);
  await rig.runtime.reopenContainerLog({ containerId });
  await until(has(logPath, 3), () => "nothing is logged anew", 20_000);
  await rig.runtime.stopContainer({ containerId, timeout: 0n });
  const numbers = [...(await linesOf(`${logPath}.1`)), ...(await linesOf(logPath))].map((line) =>
    Number(line.slice(9)),
  );
  assert.deepEqual(
    numbers,
    numbers.map((_, index) => index + 1),
  );
  await assert.rejects(rig.runtime.reopenContainerLog({ containerId }), /container is not running$/);
});

test("nothing is logged twice or out of order, and what is lost is what a process had in hand, when it is killed again and again", {
  skip,
}, async () => {
  const script = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); echo $i; done; sleep 2";
  const { id: containerId, logPath } = await runContainer(script);
  const answers = () =>
    rig.runtime.version({}).then(
      () =>
        rig.runtime.listContainers({}).then(
          () => true,
          () => false,
        ),
      () => false,
    );
  const kills = 3;
  for (let round = 0; round < kills; round += 1) {
    await new Promise((resolve) => setTimeout(resolve, 200));
    await rig.daemon.kill9("cri");
    await until(answers, () => "the kubelet is not answered", 30_000);
  }
  assert.equal(await ended(containerId), 0);
  const lines = (await linesOf(logPath)).map((line) => /^stdout F (\d+)$/.exec(line)?.[1] ?? assert.fail(line));
  let last = 0;
  let cutLines = 0;
  let lostBytes = 0;
  for (const [index, line] of lines.entries()) {
    const next = lines[index + 1] ?? "";
    const number = Number(line);
    if (number !== last + 1 && String(Number(next) - 1).endsWith(line)) {
      // The end of a line whose beginning is lost.
      cutLines += 1;
      lostBytes += next.length;
      last = Number(next) - 1;
      continue;
    }
    assert.ok(number > last, `${line} after ${last}`);
    lostBytes += (number - last - 1) * (line.length + 1);
    last = number;
  }
  lostBytes += (200_000 - last) * "200000\n".length;
  assert.ok(cutLines <= kills, `${cutLines} lines are cut`);
  assert.ok(lostBytes <= kills * pieceBytesMax, `${lostBytes} bytes are lost`);
});

test("the kubelet is told of what happens to containers, and of the state that they are in then", {
  skip,
}, async () => {
  const events: ContainerEventResponse[] = [];
  const stop = new AbortController();
  const following = (async () => {
    for await (const event of rig.runtime.getContainerEvents({}, { signal: stop.signal })) {
      events.push(event);
    }
  })().catch(() => undefined);
  const { id } = await runContainer("true");
  await ended(id);
  await rig.runtime.removeContainer({ containerId: id });
  const own = () => events.filter(({ containerId }) => containerId === id);
  await until(
    () => own().length === 4,
    () => `${own().length} events came`,
    20_000,
  );
  stop.abort();
  await following;
  const { CONTAINER_CREATED_EVENT, CONTAINER_STARTED_EVENT, CONTAINER_STOPPED_EVENT, CONTAINER_DELETED_EVENT } =
    ContainerEventType;
  assert.deepEqual(
    own().map(({ containerEventType }) => containerEventType),
    [CONTAINER_CREATED_EVENT, CONTAINER_STARTED_EVENT, CONTAINER_STOPPED_EVENT, CONTAINER_DELETED_EVENT],
  );
  assert.equal(own()[0]?.podSandboxStatus?.id, podSandboxId);
  const stopped = own()[2]?.containersStatuses.find((status) => status.id === id);
  assert.equal(stopped?.state, ContainerState.CONTAINER_EXITED);
});

test("a plugin of NRI changes a container and is told of its life", { skip }, async () => {
  const told: string[] = [];
  const tell = (what: string) => () => {
    told.push(what);
    return {};
  };
  using plugin = await NriTestPlugin.connect(
    join(rig.directory, "nri.sock"),
    { name: "test", index: "10" },
    {
      createContainer: () => {
        told.push("create");
        return {
          adjust: {
            env: [{ key: "FROM_PLUGIN", value: "yes" }],
            rlimits: [{ type: "RLIMIT_NOFILE", soft: 77n, hard: 77n }],
          },
        };
      },
      postCreateContainer: tell("created"),
      startContainer: tell("start"),
      postStartContainer: tell("started"),
      stopContainer: tell("stopped"),
      removeContainer: tell("removed"),
      updateContainer: ({ linuxResources }) => {
        told.push(`update ${linuxResources?.cpu?.shares?.value}`);
        return {};
      },
      postUpdateContainer: tell("updated"),
    },
  );
  const { pods } = await plugin.synchronized;
  assert.ok(pods.some(({ id }) => id === podSandboxId));
  await new Promise((resolve) => setTimeout(resolve, 100));
  const { id: containerId, logPath } = await runContainer("echo $FROM_PLUGIN; ulimit -n; sleep 1000");
  await until(
    async () => (await linesOf(logPath)).length === 2,
    () => "nothing is logged",
    20_000,
  );
  assert.deepEqual(await linesOf(logPath), ["stdout F yes", "stdout F 77"]);
  await rig.runtime.updateContainerResources({ containerId, linux: { cpuShares: 300n } });
  await rig.runtime.stopContainer({ containerId, timeout: 0n });
  await rig.runtime.removeContainer({ containerId });
  assert.deepEqual(told, ["create", "created", "start", "started", "update 300", "updated", "stopped", "removed"]);
});
