import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { Code, createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { ErrorKind } from "#base/errors.ts";
import { Containers } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import { Images } from "#gen/containerd/services/images/v1/images_pb.ts";
import { Version } from "#gen/containerd/services/version/v1/version_pb.ts";
import { type Certificate, makeCertificate, makeSignedCertificate } from "../kit/certificates.ts";
import { type Daemon, startFlotilla } from "../kit/daemon.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { makeTemporaryDirectory, type TemporaryDirectory } from "../kit/temporary-directory.ts";

let leaks: LeakSnapshot;
let directory: TemporaryDirectory;
let server: Certificate;
let client: Certificate;
let daemon: Daemon;

const kibibyte = 1024;

before(async () => {
  leaks = await snapshotLeaks();
  directory = await makeTemporaryDirectory("tcp-e2e");
  const authority = await makeCertificate(directory.path, "authority");
  server = await makeCertificate(directory.path, "server");
  client = await makeSignedCertificate(directory.path, "client", authority);
  daemon = await startFlotilla({
    config: `
[plugins."io.containerd.server.v1.grpc"]
max_recv_message_size = ${64 * kibibyte}
[plugins."io.containerd.server.v1.grpc-tcp"]
address = "127.0.0.1:0"
tls_cert = "${server.certificatePath}"
tls_key = "${server.keyPath}"
tls_ca = "${authority.certificatePath}"
tls_common_name = "client"
max_recv_message_size = ${4 * kibibyte}
`,
  });
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await directory?.[Symbol.asyncDispose]();
  await assertNoLeaks(leaks);
});

/** gRPC over HTTP/2 and Connect over HTTP/1.1, as the log says where. */
async function transports(own?: Certificate): Promise<Transport[]> {
  const port = /"address":"127\.0\.0\.1:(\d+)"/.exec(daemon.log())?.[1];
  const baseUrl = `https://localhost:${port}`;
  const nodeOptions = {
    ca: await readFile(server.certificatePath),
    ...(own === undefined ? {} : { cert: await readFile(own.certificatePath), key: await readFile(own.keyPath) }),
  };
  return [
    createGrpcTransport({ baseUrl, nodeOptions, idleConnectionTimeoutMs: 100 }),
    createConnectTransport({ baseUrl, httpVersion: "1.1", nodeOptions: { ...nodeOptions, agent: false } }),
  ];
}

test("a client with a certificate calls every process over TCP, and one without none", async () => {
  for (const transport of await transports(client)) {
    assert.match((await createClient(Version, transport).version({})).version, /flotilla/);
    const headers = { "containerd-namespace": "tcp" };
    assert.deepEqual((await createClient(Images, transport).list({}, { headers })).images, []);
  }
  for (const transport of await transports()) {
    await assert.rejects(createClient(Version, transport).version({}));
  }
});

test("each socket keeps its own size of messages", async () => {
  const options = { headers: { "containerd-namespace": "tcp" } };
  const request = (bytes: number) => ({ container: { id: "large", labels: { l: "x".repeat(bytes) } } });
  for (const transport of await transports(client)) {
    const containers = createClient(Containers, transport);
    await assert.rejects(containers.create(request(5 * kibibyte), options), { code: Code.ResourceExhausted });
  }
  // Refused for what it says, not for its size.
  const local = createClient(Containers, daemon.transport);
  await assert.rejects(local.create(request(5 * kibibyte), options), { kind: ErrorKind.InvalidArgument });
  await assert.rejects(local.create(request(65 * kibibyte), options), { kind: ErrorKind.ResourceExhausted });
});
