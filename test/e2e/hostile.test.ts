import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync, readdirSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import net from "node:net";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { createClient } from "@connectrpc/connect";
import { execa } from "execa";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { messageBytesMax } from "#base/limits.ts";
import { Containers } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import { readMountInfo } from "#linux/mount-info.ts";
import { clientHeaders } from "#wire/headers.ts";
import { findInconsistencies } from "../kit/check.ts";
import { type Daemon, startContainerd, startFlotilla } from "../kit/daemon.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { uniqueNamespace } from "../kit/namespace.ts";
import { until } from "../kit/processes.ts";
import { makeTemporaryDirectory, type TemporaryDirectory } from "../kit/temporary-directory.ts";
import { describeTree, type Tree } from "../kit/tree.ts";
import { hostileLayers, writeHostileImage } from "./hostile-layers.ts";
import { assertParity, normalise } from "./parity.ts";

const launcher = fileURLToPath(new URL("../../deploy/flotilla", import.meta.url));
const processes = ["gateway", "events", "metadata", "content", "snapshots", "tasks", "nats-server"] as const;
const garbageMsMax = 40_000;

let ours: Daemon;
let theirs: Daemon;
let leaks: LeakSnapshot;
let directory: TemporaryDirectory;
/** It says only after 10 s that it waits, and does so beside the other tests. */
let intruder: Intruder;
const namespace = uniqueNamespace();

before(async () => {
  leaks = await snapshotLeaks();
  directory = await makeTemporaryDirectory("hostile");
  [ours, theirs] = await Promise.all([startFlotilla(), startContainerd()]);
  intruder = await intrude(directory.path);
});

after(async () => {
  await intruder?.[Symbol.asyncDispose]();
  await ours?.[Symbol.asyncDispose]();
  await theirs?.[Symbol.asyncDispose]();
  await directory?.[Symbol.asyncDispose]();
  await assertNoLeaks(leaks);
});

test("a malformed configuration is refused with its place, and nothing is made", async () => {
  for (const [config, message] of [
    ["version = 4\n[grpc\n", /TOML at row 2 column 6: .*config\.toml/],
    ["version = 99\n", /config\.toml.*expected containerd config version equal to or less than `4`, got `99`/],
    ["version = 4\n[grpc]\naddress = 5\n", /config\.toml: grpc\.address: expected a string, got an integer/],
    ["\0\x01\xff", /TOML/],
  ] as const) {
    await using place = await makeTemporaryDirectory("config");
    const { exitCode, stderr } = await runGateway(place.path, { config });
    assert.equal(exitCode, 1, stderr);
    assert.match(stderr, message);
    assert.deepEqual(readdirSync(place.path), ["config.toml"]);
  }
});

test("names, digests, filters and snapshotters that are none are refused as containerd does", async () => {
  const absent = `sha256:${"0".repeat(64)}`;
  const outcomes = await assertParity({ ours, theirs }, namespace, [
    ["snapshots", "--snapshotter", "absent", "ls"],
    ["snapshots", "--snapshotter", "absent", "prepare", "k"],
    ["snapshots", "prepare", "k", "absent-parent"],
    ["snapshots", "rm", "absent"],
    ["snapshots", "commit", "a", "absent"],
    ["content", "get", "sha256:abc"],
    ["content", "get", absent],
    ["content", "rm", "not-a-digest"],
    ["content", "label", absent, "a=b"],
    ["content", "ingest", "--expected-digest", absent, "ref1"],
    ["content", "ingest", "--expected-digest", "sha256:abc", "ref2"],
    ["content", "ingest", "--expected-size", "5", "ref3"],
    ["containers", "info", "bad id!"],
    ["containers", "label", "bad id!", "a=b"],
    ["containers", "rm", "no/such"],
    ["tasks", "kill", "a..b"],
    ["namespaces", "create", "bad/ns"],
    ["namespaces", "create", "x".repeat(77)],
    ["leases", "rm", "absent"],
    ["events", "not-a-filter=="],
    ["images", "ls", "name~~=x"],
    ["images", "rm", "absent"],
    ["images", "label", "absent", "a=b"],
  ]);
  assert.match(outcomes[0]?.stderr ?? "", /snapshotter not loaded: absent: invalid argument/);
  for (const what of ["containers", "content", "snapshots", "tasks", "leases", "images"]) {
    const [refused] = await assertParity({ ours, theirs }, "bad/ns", [[what, "ls"]]);
    assert.match(refused?.stderr ?? "", /namespace validation: identifier "bad\/ns" must match/);
  }
});

test("hostile layers end as they do with containerd, touch nothing outside and leave nothing behind", async (t) => {
  const victim = `${directory.path}/victim`;
  await mkdir(victim);
  await writeFile(`${victim}/canary`, "alive\n");
  const surroundings = describeSurroundings(victim);
  const layers = hostileLayers(victim);
  for (const [index, layer] of layers.entries()) {
    await t.test(layer.name, async () => {
      const name = `docker.io/library/hostile${index}:test`;
      const archive = await writeHostileImage(`${directory.path}/${index}`, name, layer);
      const outcomes: string[] = [];
      const trees: Tree[] = [];
      for (const daemon of [theirs, ours]) {
        const before = newestSnapshot(daemon);
        const { exitCode, stderr } = await daemon.ctr("-n", namespace, "images", "import", archive);
        outcomes.push(layer.isErrorComparable ? `${exitCode} ${withoutPaths(stderr)}` : `${exitCode}`);
        const newest = newestSnapshot(daemon);
        if (exitCode === 0 && newest !== undefined && newest !== before) {
          trees.push(describeTree(`${newest}/fs`, { omit: ["mtimeNs"] }));
        }
        assert.deepEqual(describeSurroundings(victim), surroundings);
      }
      assert.equal(outcomes[1], outcomes[0]);
      assert.deepEqual(trees[1], trees[0]);
      assert.equal(trees.length, outcomes[0]?.startsWith("0") === true ? 2 : 0);
      await assertNothingOpen();
    });
  }
  const { stdout } = await ours.ctr("-n", namespace, "images", "ls", "-q");
  for (const name of stdout.split("\n").filter((line) => line !== "")) {
    assert.equal((await ours.ctr("-n", namespace, "images", "rm", name)).exitCode, 0);
  }
  assert.deepEqual(await findInconsistencies(ours, { namespace }), []);
  assert.equal((await ours.ctr("-n", namespace, "content", "ls", "-q")).stdout, "");
});

test("a message that is too long is refused, and the connection goes on", async () => {
  const containers = createClient(Containers, ours.transport);
  const options = { headers: clientHeaders(namespace) };
  const spec = { typeUrl: "x", value: new Uint8Array(messageBytesMax + 1) };
  await assert.rejects(
    containers.create({ container: { id: "long", runtime: { name: "r" }, spec } }, options),
    (error) => error instanceof FlotillaError && error.kind === ErrorKind.ResourceExhausted,
  );
  assert.deepEqual((await containers.list({}, options)).containers, []);
});

test("garbage on a socket ends its connection and nothing else", async (t) => {
  const pids = processes.map((name) => ours.pidOf(name));
  const sockets = [
    ours.address,
    `${ours.address}.ttrpc`,
    ...readdirSync(ours.state, { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".sock"))
      .map((name) => `${ours.state}/${name}`),
  ];
  assert.ok(sockets.length >= 8, sockets.join(" "));
  const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  // Zeroes are frames to ttrpc, empty and of a type that nobody knows, which a server passes over.
  const garbage = {
    "random bytes": Buffer.concat([Buffer.from([0xff]), randomBytes(70_000)]),
    zeroes: Buffer.alloc(70_000),
    "the preface and random bytes": Buffer.concat([preface, randomBytes(70_000)]),
    "a frame that is too long": Buffer.concat([preface, Buffer.from([0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1])]),
    "a request that never ends": Buffer.from(`GET / HTTP/1.1\r\n${"x: y\r\n".repeat(20_000)}`),
  };
  await Promise.all(
    sockets.flatMap((path) =>
      Object.entries(garbage)
        .filter(([what]) => what !== "zeroes" || !path.includes("ttrpc"))
        .map(async ([what, bytes]) => {
          assert.ok(await closesAfter(path, bytes), `${path} stays open after ${what}`);
        }),
    ),
  );
  t.diagnostic(`${sockets.length} sockets`);
  assert.deepEqual(
    processes.map((name) => ours.pidOf(name)),
    pids,
  );
  assert.equal((await ours.ctr("version")).exitCode, 0);
  assert.equal((await ours.ctr("-n", namespace, "tasks", "ls")).exitCode, 0);
});

test("a second daemon on the same root or socket is refused", async () => {
  await using place = await makeTemporaryDirectory("second");
  const config = `version = 4\n[timeouts]\n"io.containerd.timeout.bolt.open" = "1s"\n`;
  const cases = [
    [{ config, root: ours.root }, `root ${ours.root} belongs to a daemon that is running`],
    [{ address: ours.address }, `socket ${ours.address} belongs to a daemon that is running`],
    [{ config, root: theirs.root }, `root ${theirs.root} belongs to a daemon that is running`],
    [{ address: theirs.address }, `socket ${theirs.address} belongs to a daemon that is running`],
  ] as const;
  for (const [options, message] of cases) {
    const { exitCode, stderr } = await runGateway(place.path, options);
    assert.equal(exitCode, 1, stderr);
    assert.ok(stderr.includes(message), stderr);
    assert.equal(existsSync(`${place.path}/s.sock`), false);
  }
  assert.equal((await ours.ctr("version")).exitCode, 0);
  assert.equal((await theirs.ctr("version")).exitCode, 0);
});

test("containerd does not start on a root of ours", async () => {
  const { process: second, address } = intruder;
  await until(
    () => intruder.log.includes("waiting for response from boltdb open"),
    () => `containerd does not wait for the lock:\n${intruder.log}`,
    40_000,
  );
  assert.equal(existsSync(address), false);
  second.kill("SIGKILL");
  await second;
  assert.equal((await ours.ctr("version")).exitCode, 0);
});

/** A containerd that is told to use a root of ours. */
interface Intruder extends AsyncDisposable {
  readonly process: ReturnType<typeof startOn>;
  readonly address: string;
  readonly log: string;
}

async function intrude(place: string): Promise<Intruder> {
  const config = `${place}/intruder.toml`;
  await writeFile(config, `version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n`);
  const address = `${place}/intruder.sock`;
  const child = startOn(["--config", config, "--root", ours.root, "--state", `${place}/state`, "--address", address]);
  let log = "";
  child.all.setEncoding("utf8").on("data", (text: string) => {
    log += text;
  });
  return {
    process: child,
    address,
    get log() {
      return log;
    },
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGKILL");
      await child;
    },
  };
}

function startOn(flags: readonly string[]) {
  return execa("containerd", flags, { reject: false, stdin: "ignore", all: true, buffer: false });
}

/** Runs a daemon of ours that is expected to end by itself. */
async function runGateway(
  place: string,
  options: { readonly root?: string; readonly address?: string; readonly config?: string },
): Promise<{ readonly exitCode: number | undefined; readonly stderr: string }> {
  const { root = `${place}/root`, address = `${place}/s.sock`, config = "version = 4\n" } = options;
  await writeFile(`${place}/config.toml`, config, "latin1");
  const flags = ["--root", root, "--state", `${place}/state`, "--address", address];
  const { exitCode, stderr } = await execa(launcher, [...flags, "--config", `${place}/config.toml`], {
    reject: false,
    stdin: "ignore",
    timeout: 60_000,
    killSignal: "SIGKILL",
  });
  return { exitCode, stderr };
}

/** What lies around: the directory that the layers aim at, and what is beside the roots of the daemons. */
function describeSurroundings(victim: string): unknown {
  return [
    describeTree(victim),
    [ours, theirs].map(({ root }) => [
      readdirSync(`${root}/..`),
      readdirSync(root).filter((name) => name !== "tmpmounts"),
      existsSync("/evil"),
      existsSync("/stolen"),
    ]),
  ];
}

/** The directory of the snapshot that was made last. */
function newestSnapshot({ root }: Daemon): string | undefined {
  const snapshots = `${root}/io.containerd.snapshotter.v1.overlayfs/snapshots`;
  const ids = existsSync(snapshots) ? readdirSync(snapshots).map(Number).filter(Number.isInteger) : [];
  return ids.length === 0 ? undefined : `${snapshots}/${Math.max(...ids)}`;
}

async function assertNothingOpen(): Promise<void> {
  const { stdout } = await ours.ctr("-n", namespace, "snapshots", "ls");
  assert.doesNotMatch(stdout, /Active/);
  const mounts = (await readMountInfo()).map(({ mountPoint }) => mountPoint);
  assert.deepEqual(
    mounts.filter((path) => path.startsWith(`${ours.root}/`) || path.startsWith(`${ours.state}/`)),
    [],
  );
  const ingests = await ours.ctr("-n", namespace, "content", "active");
  assert.doesNotMatch(ingests.stdout, /layer-|manifest-|config-|import-/);
}

/**
 * Leaves out where a layer was unpacked: that containerd mounts what Flotilla, as later containerd, reaches without a mount, and so the names of
 * directories; and the target of a hard link, which containerd shows with symbolic links followed and Flotilla as the archive has it.
 */
function withoutPaths(text: string): string {
  return normalise(text)
    .replace(/extract-\d+-\S+/g, "KEY")
    .replace(/mount callback failed on \S+: /g, "")
    .replace(/\S+\/(?:tmpmounts\/containerd-mount\d+|snapshots\/\d+\/fs)\/+/g, "ROOT/")
    .replace(/link ROOT\/\S+ ROOT/g, "link ROOT/TARGET ROOT");
}

async function closesAfter(path: string, bytes: Buffer): Promise<boolean> {
  const socket = net.connect({ path });
  try {
    await once(socket, "connect");
    socket.on("error", () => undefined).resume();
    const closed = once(socket, "close", { signal: AbortSignal.timeout(garbageMsMax) });
    socket.write(bytes);
    await closed;
    return true;
  } catch {
    return socket.destroyed;
  } finally {
    socket.destroy();
  }
}
