import assert from "node:assert/strict";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { after, before, type TestContext, test } from "node:test";
import { createClient } from "@connectrpc/connect";
import { Images } from "#gen/containerd/services/images/v1/images_pb.ts";
import { Leases } from "#gen/containerd/services/leases/v1/leases_pb.ts";
import { clientHeaders } from "#wire/headers.ts";
import { makeCertificate } from "../kit/certificates.ts";
import {
  type BuiltClient,
  buildContainerdClient,
  type GoOutcome,
  runContainerdClient,
} from "../kit/containerd-client.ts";
import { type Daemon, startFlotilla } from "../kit/daemon.ts";
import { busyboxImage, type TestImage } from "../kit/image.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { uniqueNamespace } from "../kit/namespace.ts";
import { type Registry, startRegistry } from "../kit/registry.ts";
import { makeTemporaryDirectory, type TemporaryDirectory } from "../kit/temporary-directory.ts";
import { startTokenServer } from "../kit/token-server.ts";

/**
 * Images by the Go client of containerd 2, unmodified. Debian's containerd is no measure here: 1.6 has neither Transfer nor
 * Streaming.
 */

let built: BuiltClient;
let daemon: Daemon;
let directory: TemporaryDirectory;
let leaks: LeakSnapshot;
let busybox: TestImage;

/** The bcrypt hash of `sesame`. */
const sesameHash = "$2y$04$abcdefghijklmnopqrstuuinwY/tkBVrn3xrxQI/TgnMHhkvl85RW";
const secrets = /sesame|YWxpOnNlc2FtZQ|eyJ[\w-]+\.eyJ/;

before(async () => {
  built = await buildContainerdClient();
  leaks = await snapshotLeaks();
  directory = await makeTemporaryDirectory("go-client");
  busybox = await busyboxImage();
  daemon = await startFlotilla({ config: '[debug]\n  level = "debug"' });
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await directory?.[Symbol.asyncDispose]();
  await assertNoLeaks(leaks);
});

/** Runs the client in a namespace. */
type Run = (args: readonly string[], input?: Uint8Array) => Promise<GoOutcome>;

/** The client, in a namespace of its own; a machine that cannot build it skips the test. */
function clientFor(
  context: TestContext,
): { readonly namespace: string; readonly run: Run; readonly ok: Run } | undefined {
  if ("lacks" in built) {
    context.skip(built.lacks);
    return undefined;
  }
  const { path } = built;
  const namespace = uniqueNamespace();
  const run: Run = (args, input) =>
    runContainerdClient(path, ["-address", daemon.address, "-namespace", namespace, ...args], input);
  const ok: Run = async (args, input) => {
    const outcome = await run(args, input);
    assert.equal(outcome.exitCode, 0, `${args.join(" ")}: ${outcome.stderr}\n${daemon.log().slice(-4000)}`);
    return outcome;
  };
  return { namespace, run, ok };
}

async function imagesOf(
  namespace: string,
): Promise<Record<string, { digest: string; labels: Record<string, string> }>> {
  const { images } = await createClient(Images, daemon.transport).list({}, { headers: clientHeaders(namespace) });
  return Object.fromEntries(images.map(({ name, target, labels }) => [name, { digest: target?.digest ?? "", labels }]));
}

async function assertRuns(namespace: string, image: string): Promise<void> {
  const ran = await daemon.ctr("-n", namespace, "run", "--rm", image, "go", "echo", "inside");
  assert.equal(ran.stdout, "inside\n", ran.stderr);
}

function events({ progress }: GoOutcome, about: string): string[] {
  return progress.filter(({ Name }) => Name === about).map(({ Event }) => Event);
}

/** A directory with a `hosts.toml` for `registry.invalid`. */
async function hostsOf(name: string, toml: string): Promise<string> {
  const path = `${directory.path}/${name}`;
  await mkdir(`${path}/registry.invalid`, { recursive: true });
  await writeFile(`${path}/registry.invalid/hosts.toml`, toml);
  return path;
}

/** Imports busybox, pushes it, and pulls it into another namespace. */
async function roundTrip(
  context: TestContext,
  flags: readonly string[],
  repository: string,
): Promise<readonly GoOutcome[] | undefined> {
  const [source, target] = [clientFor(context), clientFor(context)];
  if (source === undefined || target === undefined) {
    return undefined;
  }
  await source.ok(["-prefix", "p", "-overwrite", "import"], await readFile(busybox.tar));
  const reference = `${repository}/go/busybox:1`;
  const pushed = await source.ok([...flags, "push", busybox.name, reference]);
  const pulled = await target.ok([...flags, "-unpack", "pull", reference]);
  assert.equal((await imagesOf(target.namespace))[reference]?.digest, busybox.manifest.digest);
  await assertRuns(target.namespace, reference);
  return [pushed, pulled];
}

function assertNoSecrets(outcomes: readonly GoOutcome[]): void {
  assert.doesNotMatch(daemon.log(), secrets);
  for (const { stderr } of outcomes) {
    assert.match(stderr, /registry\.invalid|127\.0\.0\.1/, "something is told of requests");
    assert.doesNotMatch(stderr, secrets);
  }
}

test("pull with its options, and its progress", async (context) => {
  const client = clientFor(context);
  if (client === undefined) {
    return;
  }
  const { namespace, run, ok } = client;
  await using registry = await startRegistry();
  const reference = await registry.pushImage(busybox, "busybox:test");
  const { digest } = busybox.manifest;
  const options = ["-all-metadata", "-label", "mine=yes", "-digest-prefix", "by", "-overwrite", "-header", "x-mine=1"];
  const pulled = await ok(["-plain-http", "-unpack", "-snapshotter", "overlayfs", ...options, "pull", reference]);
  const images = await imagesOf(namespace);
  const byDigest = `by@${digest}`;
  assert.deepEqual(Object.keys(images).toSorted(), [reference, byDigest].toSorted());
  assert.deepEqual(images[reference], { digest, labels: { mine: "yes" } });
  assert.equal(images[byDigest]?.digest, digest);
  assert.equal(images[byDigest]?.labels["containerd.io/gc.bref.image"], reference);
  const shown = `OCI Registry (${reference})`;
  const whole = [`Resolving from ${shown}`, `Pulling from ${shown}`, `Completed pull from ${shown}`];
  assert.deepEqual(events(pulled, ""), whole);
  const layer = events(pulled, `layer-${busybox.layers[0]?.digest}`);
  assert.deepEqual([layer[0], layer.at(-1)], ["waiting", "extracted"]);
  await assertRuns(namespace, reference);
  const { leases } = await createClient(Leases, daemon.transport).list({}, { headers: clientHeaders(namespace) });
  assert.deepEqual(leases, []);

  const absent = await run(["-plain-http", "pull", `${registry.host}/busybox:none`]);
  assert.match(absent.stderr, /^error: failed to resolve image: .+: not found\n$/);
  const platform = await run(["-plain-http", "-platform", "linux/riscv64", "-unpack", "pull", reference]);
  assert.equal(platform.exitCode, 0, "an image without an index is that of every platform");
});

test("import, tag and export", async (context) => {
  const client = clientFor(context);
  const elsewhere = clientFor(context);
  if (client === undefined || elsewhere === undefined) {
    return;
  }
  const imported = await client.ok(["-prefix", "p", "-overwrite", "-unpack", "import"], await readFile(busybox.tar));
  assert.deepEqual(events(imported, ""), ["Importing", "Completed import"]);
  await client.ok(["tag", busybox.name, "docker.io/library/second:2"]);
  const names = [busybox.name, "docker.io/library/second:2"];
  assert.deepEqual(Object.keys(await imagesOf(client.namespace)).toSorted(), names);
  const exported = await client.ok(["export", ...names]);
  assert.deepEqual(events(exported, ""), ["Exporting", "Completed export"]);
  await elsewhere.ok(["-prefix", "p", "-overwrite", "-unpack", "import"], exported.stdout);
  assert.deepEqual(Object.keys(await imagesOf(elsewhere.namespace)).toSorted(), names);
  await assertRuns(elsewhere.namespace, busybox.name);
  const plain = await client.ok(["-skip-docker-manifest", "export", busybox.name]);
  assert.ok(exported.stdout.includes("manifest.json") && !plain.stdout.includes("manifest.json"));
  const broken = await elsewhere.run(["import"], exported.stdout.subarray(0, 100_000));
  assert.match(broken.stderr, /^error: .*unexpected EOF/);
  const absent = await client.run(["export", "nobody"]);
  assert.match(absent.stderr, /^error: image "nobody": not found\n$/);
});

test("a registry with TLS and Basic auth, by hosts.toml", async (context) => {
  const own = await makeCertificate(directory.path, "server");
  await using registry = await startRegistry({ tls: own, passwordHashes: { ali: sesameHash } });
  const trusting = await hostsOf("tls", `server = "https://${registry.host}"\nca = "${own.certificatePath}"\n`);
  const flags = ["-hosts-dir", trusting, "-http-dump"];
  const outcomes = await roundTrip(context, [...flags, "-user", "ali:sesame"], "registry.invalid");
  const client = clientFor(context);
  if (outcomes === undefined || client === undefined) {
    return;
  }
  const wrong = await client.run([...flags, "-user", "ali:sesame2", "pull", "registry.invalid/go/busybox:1"]);
  assert.match(wrong.stderr, /error: failed to resolve image: .*(401|authorization failed)/);
  const strange = await hostsOf("untrusting", `server = "https://${registry.host}"\n`);
  const untrusted = await client.run(["-hosts-dir", strange, "pull", "registry.invalid/go/busybox:1"]);
  assert.match(untrusted.stderr, /error: .*x509/);
  assertNoSecrets([...outcomes, wrong]);
});

test("a registry that wants tokens", async (context) => {
  const signer = await makeCertificate(directory.path, "signer");
  await using tokens = await startTokenServer({ signer, users: { ali: "sesame" } });
  await using registry = await startRegistry({ token: { ...tokens, certificatePath: signer.certificatePath } });
  const flags = ["-plain-http", "-http-dump", "-user", "ali:sesame"];
  const outcomes = await roundTrip(context, flags, registry.host);
  if (outcomes === undefined) {
    return;
  }
  assert.ok(tokens.requests.every((request) => request.endsWith(" by ali")));
  assert.ok(tokens.requests.some((request) => request.includes("repository:go/busybox:pull,push")));
  assertNoSecrets(outcomes);
});

test("a mirror serves what its registry would", async (context) => {
  const client = clientFor(context);
  if (client === undefined) {
    return;
  }
  await using mirror: Registry = await startRegistry();
  await mirror.pushImage(busybox, "go/busybox:1");
  const server = 'server = "http://127.0.0.1:1"';
  const hosts = await hostsOf(
    "mirror",
    `${server}\n[host."http://${mirror.host}"]\ncapabilities = ["pull", "resolve"]\n`,
  );
  const reference = "registry.invalid/go/busybox:1";
  const pulled = await client.ok(["-hosts-dir", hosts, "-unpack", "-http-dump", "pull", reference]);
  assert.match(pulled.stderr, new RegExp(mirror.host));
  assert.equal((await imagesOf(client.namespace))[reference]?.digest, busybox.manifest.digest);
  await assertRuns(client.namespace, reference);
});
