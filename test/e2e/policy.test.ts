import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { request } from "node:https";
import { createServer } from "node:net";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { execa } from "execa";
import { type Certificate, makeCertificate, makeSignedCertificate } from "../kit/certificates.ts";
import { type CtrResult, type Daemon, startFlotilla } from "../kit/daemon.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { until } from "../kit/processes.ts";
import { makeTemporaryDirectory, type TemporaryDirectory } from "../kit/temporary-directory.ts";

/** Users and groups that need no names. */
const builder = 64_401;
const reader = 64_402;
const stranger = 64_403;
const socketGroup = 64_400;

const policy = `version = 1

[[rules]]
name = "root"
users = ["root"]
access = "full"

[[rules]]
name = "builders"
users = [${builder}]
namespaces = ["build-*"]
access = "full"

[[rules]]
name = "readers"
groups = [${reader}]
access = "read"

[[rules]]
name = "ci"
certificates = ["client"]
methods = ["Images/*"]
access = "full"
`;

interface Record {
  readonly who: { readonly uid?: number; readonly certificate?: string };
  readonly namespace: string;
  readonly method: string;
  readonly object?: { readonly [field: string]: string };
  readonly rule?: string;
  readonly outcome: string;
}

let daemon: Daemon;
let directory: TemporaryDirectory;
let leaks: LeakSnapshot;
let port: number;
let server: Certificate;
let client: Certificate;
let otherClient: Certificate;

before(async () => {
  leaks = await snapshotLeaks();
  directory = await makeTemporaryDirectory("policy");
  const authority = await makeCertificate(directory.path, "authority");
  server = await makeCertificate(directory.path, "server");
  client = await makeSignedCertificate(directory.path, "client", authority);
  otherClient = await makeSignedCertificate(directory.path, "other", authority);
  await writeFile(policyPath(), policy);
  port = await freePort();
  daemon = await startFlotilla({
    config: `[plugins."io.containerd.server.v1.grpc"]
gid = ${socketGroup}
[plugins."io.containerd.server.v1.grpc-tcp"]
address = "127.0.0.1:${port}"
tls_cert = "${server.certificatePath}"
tls_key = "${server.keyPath}"
tls_ca = "${authority.certificatePath}"
[plugins."io.flotilla.fleet.v1.access"]
policy = "${policyPath()}"
audit_log = "${auditPath()}"
`,
  });
  // Other users come to the socket by its group, and have to pass through the directories above it.
  await execa("chmod", ["0711", `${daemon.root}/..`]);
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await directory?.[Symbol.asyncDispose]();
  await assertNoLeaks(leaks);
});

const policyPath = (): string => `${directory.path}/policy.toml`;
const auditPath = (): string => `${directory.path}/audit.log`;

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, "127.0.0.1", resolve));
  const address = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  return typeof address === "object" && address !== null ? address.port : 0;
}

function records(): Record[] {
  return readFileSync(auditPath(), "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Record);
}

/** Runs ctr as another user. */
async function ctrAs(user: number, ...args: string[]): Promise<CtrResult> {
  const who = [`--reuid=${user}`, `--regid=${user}`, `--groups=${socketGroup},${user}`];
  const result = await execa("setpriv", [...who, "ctr", "--address", daemon.address, ...args], {
    reject: false,
    timeout: 60_000,
  });
  return { stdout: result.stdout, stderr: result.stderr, exitCode: result.exitCode };
}

test("a user does what the first rule for him says, where it says so", async () => {
  const label = ["namespaces", "label", "build-1", "a=b"];
  assert.equal((await daemon.ctr("namespaces", "create", "build-1")).exitCode, 0);
  assert.equal((await daemon.ctr("namespaces", "create", "other")).exitCode, 0);
  const lease = await ctrAs(builder, "-n", "build-1", "leases", "create");
  assert.equal(lease.exitCode, 0, lease.stderr);
  const elsewhere = await ctrAs(builder, "-n", "other", "leases", "create");
  assert.match(elsewhere.stderr, /Leases\/Create in namespace "other" is denied to user 64401: permission denied/);
  assert.equal(elsewhere.exitCode, 1);
  // The namespace that a message names is not the one of the call.
  assert.match((await ctrAs(builder, "-n", "build-1", ...label)).stderr, /denied to user 64401/);
  assert.equal((await daemon.ctr(...label)).exitCode, 0);
});

test("a reader reads and changes nothing, by his group; a stranger does neither", async () => {
  assert.equal((await ctrAs(reader, "-n", "other", "images", "ls")).exitCode, 0);
  assert.match((await ctrAs(reader, "-n", "other", "leases", "create")).stderr, /denied to user 64402/);
  for (const args of [
    ["-n", "other", "images", "ls"],
    ["-n", "build-1", "leases", "create"],
    ["version"],
    ["events"],
  ]) {
    assert.match((await ctrAs(stranger, ...args)).stderr, /denied to user 64403/, args.join(" "));
  }
});

/** Calls by Connect over HTTP/1.1 with a certificate. @returns the status and the answer. */
async function callWith(own: Certificate, method: string, headers: object, body = "{}"): Promise<[number, string]> {
  const file = (path: string): Buffer => readFileSync(path);
  return await new Promise((resolve, reject) => {
    const call = request(
      {
        host: "127.0.0.1",
        port,
        path: `/${method}`,
        method: "POST",
        agent: false,
        ca: file(server.certificatePath),
        cert: file(own.certificatePath),
        key: file(own.keyPath),
        headers: { "content-type": "application/json", ...headers },
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("end", () => resolve([response.statusCode ?? 0, Buffer.concat(chunks).toString()]));
      },
    );
    call.on("error", reject);
    call.end(body);
  });
}

test("a certificate is known by its name, over TCP and HTTP/1.1 as well", async () => {
  const namespace = { "containerd-namespace": "other" };
  const list = "containerd.services.images.v1.Images/List";
  assert.equal((await callWith(client, list, namespace))[0], 200);
  const [status, text] = await callWith(otherClient, list, namespace);
  assert.deepEqual([status, JSON.parse(text).code], [403, "permission_denied"]);
  assert.match(JSON.parse(text).message, /is denied to certificate "other": permission denied$/);
  const [beyond] = await callWith(client, "containerd.services.leases.v1.Leases/List", namespace);
  assert.equal(beyond, 403);
  const image = { name: "x", target: { mediaType: "m", digest: `sha256:${"a".repeat(64)}`, size: "1" } };
  const create = "containerd.services.images.v1.Images/Create";
  assert.equal((await callWith(client, create, namespace, JSON.stringify({ image })))[0], 200);
  assert.equal((await callWith(client, create, namespace, JSON.stringify({ image })))[0], 409);
  const noted = (): Record[] =>
    records().filter(({ who, method }) => who.certificate === "client" && method === create);
  await until(
    () => noted().length === 2,
    () => "the audit does not tell of both calls",
  );
  assert.deepEqual(
    noted().map(({ outcome, rule, object }) => [outcome, rule, object]),
    [
      ["ok", "ci", { "image.name": "x" }],
      ["already_exists", "ci", { "image.name": "x" }],
    ],
  );
});

test("two namespaces in one call are none", async () => {
  const twice = { "containerd-namespace": ["build-1", "other"] };
  assert.equal((await callWith(client, "containerd.services.images.v1.Images/List", twice))[0], 403);
});

test("the audit tells who did what to what with which outcome, and nothing else that was said", async () => {
  const ofBuilder = records().filter(({ who }) => who.uid === builder);
  assert.deepEqual(
    ofBuilder.map(({ method, namespace, rule, outcome }) => [method.split(".").at(-1), namespace, rule, outcome]),
    [
      ["Leases/Create", "build-1", "builders", "ok"],
      ["Leases/Create", "other", undefined, "permission_denied"],
      ["Namespaces/Update", "build-1", undefined, "permission_denied"],
    ],
  );
  assert.deepEqual(
    records()
      .filter(({ who, method }) => who.uid === 0 && method.includes("Namespaces/"))
      .map(({ method, outcome, object }) => [method.split("/").at(-1), outcome, object]),
    [
      ["Create", "ok", { "namespace.name": "build-1" }],
      ["Create", "ok", { "namespace.name": "other" }],
      ["Update", "ok", { "namespace.name": "build-1" }],
    ],
  );
  // Calls that change nothing are not noted, unless they were refused.
  assert.ok(!records().some(({ method, outcome }) => method.endsWith("Images/List") && outcome === "ok"));
  const text = readFileSync(auditPath(), "utf8");
  assert.ok(!text.includes("sha256:"), "what a message says besides the name of its object is noted");
});

test("a changed policy holds within a second, and one that cannot be read does not", async () => {
  await writeFile(policyPath(), policy.replace(`users = [${builder}]`, `users = [${stranger}]`));
  await until(
    async () => (await ctrAs(stranger, "-n", "build-1", "leases", "create")).exitCode === 0,
    () => "the new policy does not hold",
    20_000,
  );
  assert.match((await ctrAs(builder, "-n", "build-1", "leases", "create")).stderr, /denied/);
  await writeFile(policyPath(), "version = 7\n");
  await delay(1_100);
  assert.equal((await ctrAs(stranger, "-n", "build-1", "leases", "create")).exitCode, 0);
  assert.match(daemon.log(), /the changed policy can't be used/);
});

test("a daemon whose policy cannot be read lets nobody in: it does not start", async () => {
  await assert.rejects(
    startFlotilla({ config: '[plugins."io.flotilla.fleet.v1.access"]\npolicy = "/not/there"\n' }),
    /ENOENT.*\/not\/there/s,
  );
});
