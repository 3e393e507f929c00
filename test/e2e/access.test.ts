import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import net from "node:net";
import { after, before, test } from "node:test";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { execa } from "execa";
import { connect } from "nats";
import { routesByPath } from "#fleet/topology.ts";
import { Containers } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import { Images } from "#gen/containerd/services/images/v1/images_pb.ts";
import { Introspection } from "#gen/containerd/services/introspection/v1/introspection_pb.ts";
import { Version } from "#gen/containerd/services/version/v1/version_pb.ts";
import { type Daemon, startContainerd, startFlotilla } from "../kit/daemon.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { uniqueNamespace } from "../kit/namespace.ts";

let ours: Daemon;
let theirs: Daemon;
let leaks: LeakSnapshot;

before(async () => {
  leaks = await snapshotLeaks();
  [ours, theirs] = await Promise.all([startFlotilla(), startContainerd()]);
});

after(async () => {
  await ours?.[Symbol.asyncDispose]();
  await theirs?.[Symbol.asyncDispose]();
  await assertNoLeaks(leaks);
});

interface HttpAnswer {
  readonly status: number;
  readonly body: string;
}

async function curl(path: string, body: string, ...flags: string[]): Promise<HttpAnswer> {
  const json = ["--header", "content-type: application/json", "--data", body];
  const quiet = ["--silent", "--write-out", "\n%{http_code}", "--unix-socket", ours.address];
  const { stdout } = await execa("curl", [...quiet, ...json, ...flags, `http://localhost${path}`]);
  const lines = stdout.split("\n");
  return { status: Number(lines.pop()), body: lines.join("\n") };
}

test("ctr version shows what Version and Introspection answer", async () => {
  const { stdout, exitCode } = await ours.ctr("version");
  assert.equal(exitCode, 0);
  const { uuid } = await createClient(Introspection, ours.transport).server({});
  assert.match(stdout, /Version: {2}v2\.3\.4\+flotilla\.\d+\.\d+\.\d+\n/);
  assert.ok(stdout.includes(uuid));
});

test("the identity of the server survives a restart", async () => {
  const introspection = createClient(Introspection, ours.transport);
  const before = await introspection.server({});
  assert.equal(await ours.stop(), 0);
  await ours.start();
  const after = await introspection.server({});
  assert.equal(after.uuid, before.uuid);
  assert.notEqual(after.pid, before.pid);
});

test("ctr plugins ls -d tells the truth about every plugin", async () => {
  const { stdout } = await ours.ctr("plugins", "ls", "-d");
  const { plugins } = await createClient(Introspection, ours.transport).plugins({});
  for (const { type, id } of plugins) {
    assert.match(stdout, new RegExp(`Type: +${type.replaceAll(".", "\\.")}\nID: +${id}\n`));
  }
  const names = new Set(plugins.map(({ type, id }) => `${type}.${id}`));
  for (const name of [
    "io.containerd.content.v1.content",
    "io.containerd.snapshotter.v1.overlayfs",
    "io.containerd.snapshotter.v1.native",
    "io.containerd.metadata.v1.bolt",
    "io.containerd.gc.v1.scheduler",
    "io.containerd.differ.v1.walking",
    "io.containerd.runtime.v2.task",
    "io.containerd.grpc.v1.tasks",
  ]) {
    assert.ok(names.has(name), name);
  }
  // What is not configured, or not of this machine, is skipped; nothing fails.
  const failed = plugins.filter(({ initErr }) => initErr !== undefined);
  assert.deepEqual(
    failed
      .filter(({ initErr }) => !/\bskip plugin\b/.test(initErr?.message ?? ""))
      .map(({ id, initErr }) => [id, initErr]),
    [],
  );
  const skipped = failed.map(({ id }) => id);
  for (const id of ["grpc-tcp", "blockfile", "devmapper"]) {
    assert.ok(skipped.includes(id), id);
  }
  const runtime = plugins.find(({ type }) => type === "io.containerd.runtime.v2");
  assert.equal(runtime?.platforms[0]?.os, "linux");
});

test("plugins are filtered, and a bad filter is refused, as containerd does", async () => {
  for (const filter of ["type==io.containerd.snapshotter.v1, id==native", "id==overlayfs", "id==no-such", "id==="]) {
    const [mine, other] = await Promise.all([ours, theirs].map((daemon) => daemon.ctr("plugins", "ls", filter)));
    assert.equal(mine?.exitCode, other?.exitCode, filter);
  }
});

test("curl calls any method with JSON", async () => {
  const version = await curl("/containerd.services.version.v1.Version/Version", "{}");
  assert.equal(version.status, 200);
  assert.match((JSON.parse(version.body) as { version: string }).version, /flotilla/);
  const namespace = uniqueNamespace();
  const list = await curl(
    "/containerd.services.images.v1.Images/List",
    "{}",
    "-H",
    `containerd-namespace: ${namespace}`,
  );
  assert.deepEqual([list.status, JSON.parse(list.body)], [200, {}]);
});

test("curl sees and gives what is no message: the bytes in base64, under the type's own name", async () => {
  const header = ["-H", `containerd-namespace: ${uniqueNamespace()}`];
  const service = "/containerd.services.containers.v1.Containers";
  const spec = {
    "@type": "types.containerd.io/opencontainers/runtime-spec/1/Spec",
    value: Buffer.from('{"ociVersion":"1.2.0"}').toString("base64"),
  };
  const container = { id: "by-curl", runtime: { name: "io.containerd.runc.v2" }, spec };
  const created = await curl(`${service}/Create`, JSON.stringify({ container }), ...header);
  assert.equal(created.status, 200, created.body);
  const list = await curl(`${service}/List`, "{}", ...header);
  assert.deepEqual((JSON.parse(list.body) as { containers: { spec: unknown }[] }).containers[0]?.spec, spec);
  const { containers } = await createClient(Containers, ours.transport).list(
    {},
    { headers: { "containerd-namespace": header[1]?.split(" ")[1] ?? "" } },
  );
  assert.equal(Buffer.from(containers[0]?.spec?.value ?? []).toString(), '{"ociVersion":"1.2.0"}');
  assert.equal(containers[0]?.spec?.typeUrl, spec["@type"]);
  const unknown = await curl(
    `${service}/Create`,
    JSON.stringify({ container: { ...container, id: "other", spec: { ...spec, "@type": "example.com/Nothing" } } }),
    ...header,
  );
  assert.deepEqual(
    [unknown.status, JSON.parse(unknown.body)],
    [400, { code: "invalid_argument", message: 'type "Nothing" is not known: invalid argument' }],
  );
});

test("curl gets Connect's errors, with containerd's texts", async () => {
  const path = "/containerd.services.images.v1.Images/Get";
  const absent = await curl(path, '{"name":"x"}', "-H", "containerd-namespace: default");
  assert.deepEqual(
    [absent.status, JSON.parse(absent.body)],
    [404, { code: "not_found", message: 'image "x": not found' }],
  );
  const homeless = await curl(path, '{"name":"x"}');
  assert.equal(JSON.parse(homeless.body).message, "namespace is required: failed precondition");
  const malformed = await curl(path, "{", "-H", "containerd-namespace: default");
  assert.equal(JSON.parse(malformed.body).code, "invalid_argument");
  assert.equal((await curl("/no.such.Service/Method", "{}")).status, 404);
});

test("clients by Connect over HTTP/1.1 and HTTP/2, and by gRPC-web, get the same answers", async () => {
  const namespace = uniqueNamespace();
  const headers = { "containerd-namespace": namespace };
  const image = { name: "x", target: { mediaType: "m", digest: `sha256:${"a".repeat(64)}`, size: 1n } };
  const made = await createClient(Images, ours.transport).create({ image }, { headers });
  const nodeOptions = { createConnection: () => net.connect(ours.address) };
  const options = { baseUrl: "http://localhost", nodeOptions };
  for (const transport of [
    createConnectTransport({ ...options, httpVersion: "1.1" }),
    createConnectTransport({ ...options, httpVersion: "2", useBinaryFormat: false }),
    createGrpcWebTransport({ ...options, httpVersion: "1.1" }),
  ]) {
    const { image: got } = await createClient(Images, transport).get({ name: "x" }, { headers });
    assert.deepEqual(got, made.image);
    assert.match((await createClient(Version, transport).version({})).version, /flotilla/);
  }
  await createClient(Images, ours.transport).delete({ name: "x" }, { headers });
});

test("a NATS client reads events, and may not write them", async () => {
  const url = new URL((await readFile(`${ours.root}/io.flotilla.events.v1.nats/subscriber.url`, "utf8")).trim());
  const denied = Promise.withResolvers<string>();
  await using resources = new AsyncDisposableStack();
  const connection = await connect({ servers: url.host, user: url.username, pass: url.password });
  resources.defer(() => connection.close());
  const namespace = uniqueNamespace();
  const subjects: string[] = [];
  const seen = Promise.withResolvers<void>();
  connection.subscribe(`containerd.${namespace}.>`, {
    callback: (_error, message) => {
      subjects.push(message.subject);
      if (subjects.length === 2) {
        seen.resolve();
      }
    },
  });
  await connection.flush();
  await ours.ctr("namespaces", "create", namespace);
  await ours.ctr("namespaces", "rm", namespace);
  await seen.promise;
  assert.deepEqual(subjects, [
    `containerd.${namespace}.namespaces.create`,
    `containerd.${namespace}.namespaces.delete`,
  ]);

  void (async () => {
    for await (const status of connection.status()) {
      if (JSON.stringify(status).toLowerCase().includes("permissions")) {
        denied.resolve(JSON.stringify(status));
      }
    }
  })();
  connection.publish("containerd.default.tasks.exit", "forged");
  assert.match(await denied.promise, /PERMISSIONS|Permissions/);
});

test("services that are not there are unimplemented, as a containerd without them answers", async () => {
  assert.ok(!routesByPath().has("/containerd.services.absent.v1.Absent/Info"));
  const answer = await curl("/containerd.services.absent.v1.Absent/Info", "{}");
  assert.equal(JSON.parse(answer.body).code, "unimplemented");
});
