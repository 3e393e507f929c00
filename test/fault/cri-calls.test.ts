import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { type Client, createClient } from "@connectrpc/connect";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { publicSocketOf } from "#fleet/process-name.ts";
import { ContainerState, NamespaceMode, RuntimeService } from "#gen/runtime/v1/api_pb.ts";
import { connectRpc } from "#wire/client.ts";
import { CriRig, cniDirectory, nothingLeft } from "../kit/cri-rig.ts";
import { openMuteWay } from "../kit/mute-way.ts";
import { until } from "../kit/processes.ts";
import { seededRandom } from "./random.ts";

const skip = existsSync(`${cniDirectory}/bridge`)
  ? false
  : "pods need the programs of CNI (containernetworking-plugins)";

const randomRuns = 8;
/** About how long the longest of the calls takes. */
const callMsMax = 500;
const image = { image: "docker.io/library/busybox:test" };

type Runtime = Client<typeof RuntimeService>;
type Make = <T>(call: (runtime: Runtime) => Promise<T>) => Promise<T>;

/** How often a container has put out a word. */
const wordsIn = (path: string, word: string): number =>
  readFileSync(path, "utf8")
    .split("\n")
    .filter((line) => line.endsWith(` ${word}`)).length;

/** The whole life of a pod with a container, by calls that are made as a test wants them to be. */
class Life {
  readonly #rig: CriRig;
  readonly #make: Make;
  readonly #name: string;
  readonly log: string;
  podSandboxId = "";
  containerId = "";

  constructor(rig: CriRig, name: string, make: Make) {
    this.#rig = rig;
    this.#make = make;
    this.#name = name;
    this.log = `${rig.directory}/logs/${name}/one`;
  }

  get #podConfig() {
    const metadata = { name: this.#name, namespace: "default", uid: this.#name, attempt: 0 };
    return { metadata, logDirectory: `${this.#rig.directory}/logs/${this.#name}` };
  }

  async begin(): Promise<void> {
    const config = this.#podConfig;
    await mkdir(config.logDirectory, { recursive: true });
    this.podSandboxId = (await this.#make((runtime) => runtime.runPodSandbox({ config }))).podSandboxId;
    const { podSandboxId } = this;
    const container = {
      metadata: { name: "one", attempt: 0 },
      image,
      // The second signal would end it otherwise than the first.
      command: [
        "sh",
        "-c",
        "trap 'echo told; trap \"exit 9\" TERM; sleep 1; exit 7' TERM; echo ran; sleep 1000 & wait",
      ],
      logPath: "one",
      // Its first process is its own, and not the pause container's.
      linux: { securityContext: { namespaceOptions: { pid: NamespaceMode.CONTAINER } } },
    };
    const wish = { podSandboxId, config: container, sandboxConfig: config };
    this.containerId = (await this.#make((runtime) => runtime.createContainer(wish))).containerId;
    const { containerId } = this;
    await this.#make((runtime) => runtime.startContainer({ containerId }));
    await until(
      () => existsSync(this.log) && wordsIn(this.log, "ran") > 0,
      () => "the container does not run",
      30_000,
    );
  }

  /** @returns what a command in the container has put out, which also appears in the log each time that it is run. */
  async exec(): Promise<string> {
    const { containerId } = this;
    const cmd = ["sh", "-c", "echo also > /proc/1/fd/1; echo out"];
    const { stdout } = await this.#make((runtime) => runtime.execSync({ containerId, cmd, timeout: 20n }));
    return Buffer.from(stdout).toString();
  }

  async end(): Promise<void> {
    const { containerId, podSandboxId } = this;
    await this.#make((runtime) => runtime.stopContainer({ containerId, timeout: 20n }));
    const { status } = await this.#rig.runtime.containerStatus({ containerId });
    assert.deepEqual([status?.state, status?.exitCode], [ContainerState.CONTAINER_EXITED, 7]);
    assert.equal(wordsIn(this.log, "ran"), 1);
    await this.#make((runtime) => runtime.removeContainer({ containerId }));
    await this.#make((runtime) => runtime.stopPodSandbox({ podSandboxId }));
    await this.#make((runtime) => runtime.removePodSandbox({ podSandboxId }));
  }
}

async function assertNothingLeft(rig: CriRig): Promise<void> {
  await until(
    async () => Object.values(await rig.leftovers()).every((list) => list.length === 0),
    () => "something is left",
    30_000,
  ).catch(() => undefined);
  assert.deepEqual(await rig.leftovers(), nothingLeft);
}

test("calls of the kubelet that are answered when cri dies, and not heard, are carried out once", {
  skip,
}, async () => {
  await using rig = await CriRig.start();
  await using ways = new AsyncDisposableStack();
  const make: Make = async (call) => {
    const way = ways.use(await openMuteWay(publicSocketOf(rig.daemon.state, "cri")));
    const connection = connectRpc(way.socketPath, { keepsCalls: true });
    ways.defer(() => connection.close());
    const runtime = createClient(RuntimeService, connection.transport);
    await runtime.version({});
    const swallowed = way.mute();
    const answer = call(runtime);
    await Promise.race([swallowed, answer.then(() => assert.fail("was answered"))]);
    await rig.daemon.kill9("cri");
    way.unmute();
    return await answer;
  };
  const life = new Life(rig, "mute", make);
  await life.begin();
  const { items } = await rig.runtime.listPodSandbox({});
  assert.deepEqual(
    items.map(({ id }) => id),
    [life.podSandboxId],
  );
  const { containers } = await rig.runtime.listContainers({});
  assert.deepEqual(
    containers.map(({ id }) => id),
    [life.containerId],
  );
  assert.equal(await life.exec(), "out\n");
  await life.end();
  assert.equal(wordsIn(life.log, "also"), 1);
  await assertNothingLeft(rig);
});

test("kill -9 of cri at any moment: every call of a pod's life succeeds, and nothing is done twice", {
  skip,
}, async (t) => {
  await using rig = await CriRig.start();
  const random = seededRandom();
  t.diagnostic(`FLOTILLA_TEST_SEED=${random.seed}`);
  let unknown = 0;
  for (let run = 0; run < randomRuns; run += 1) {
    const cut = random.below(8);
    let step = 0;
    const make: Make = async (call) => {
      const answer = call(rig.runtime);
      answer.catch(() => undefined);
      if (step === cut) {
        await delay(random.below(callMsMax));
        await rig.daemon.kill9("cri");
      }
      step += 1;
      return await answer;
    };
    const life = new Life(rig, `any-${run}`, make);
    await life.begin();
    try {
      assert.equal(await life.exec(), "out\n");
    } catch (error) {
      // Nobody can know it then, and the command is not run again.
      assert.ok(
        isFailure(error, ErrorKind.Unavailable) && /knew whether the command/.test(error.message),
        String(error),
      );
      unknown += 1;
    }
    await life.end();
    assert.ok(wordsIn(life.log, "also") <= 1);
  }
  t.diagnostic(`${unknown} commands of which nobody knew`);
  await assertNothingLeft(rig);
});
