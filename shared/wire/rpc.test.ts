import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { ErrorKind, failure, isFailure } from "#base/errors.ts";
import { messageBytesMax } from "#base/limits.ts";
import {
  Containers,
  GetContainerRequestSchema,
  ListContainersResponseSchema,
} from "#gen/containerd/services/containers/v1/containers_pb.ts";
import { Content, ReadContentResponseSchema } from "#gen/containerd/services/content/v1/content_pb.ts";
import { Version } from "#gen/containerd/services/version/v1/version_pb.ts";
import { connectRpc, type RpcConnection } from "./client.ts";
import { bindService, EncodedResponse, EncodedResponses, handleEncoded, type ServiceBinding } from "./handler.ts";
import { clientHeaders, leaseOf, requireNamespace } from "./headers.ts";
import type { FailedCall } from "./observe.ts";
import { type RpcServer, serveRpc } from "./server.ts";

let directory: string;
let socketPath: string;
let server: RpcServer;
let connection: RpcConnection;
const failures: FailedCall[] = [];

const containers = bindService(Containers, {
  get: ({ id }, call) => {
    if (id === "bug") {
      throw new TypeError("broken");
    }
    if (id === "conflict") {
      throw failure(ErrorKind.Conflict, "edited elsewhere: ü");
    }
    return { container: { id, image: requireNamespace(call), snapshotKey: leaseOf(call) } };
  },
  list: () =>
    new EncodedResponse(
      toBinary(ListContainersResponseSchema, create(ListContainersResponseSchema, { containers: [{ id: "kept" }] })),
    ),
  delete: () => ({}),
  create: () => ({ container: { image: "x".repeat(messageBytesMax) } }),
  update: (_request, call) =>
    new Promise((_resolve, reject) => {
      call.signal.addEventListener("abort", () => reject(new Error("aborted")), { once: true });
    }),
});

const content = bindService(Content, {
  read: async function* ({ size }) {
    for (let offset = 0n; offset < size; offset++) {
      yield { offset, data: Buffer.from([Number(offset)]) };
    }
    if (size === 3n) {
      throw failure(ErrorKind.DataLoss, "no more");
    }
  },
});

function serve(services: readonly ServiceBinding[]): Promise<RpcServer> {
  return serveRpc({ socketPath, services, observer: { failed: (failed) => failures.push(failed) } });
}

before(async () => {
  directory = await mkdtemp(join(tmpdir(), "flotilla-rpc-"));
  socketPath = join(directory, "x.sock");
  server = await serve([containers, content]);
  connection = connectRpc(socketPath);
});

after(async () => {
  connection.close();
  await server.close(100);
  await rm(directory, { recursive: true });
});

test("a unary call carries message, namespace and lease", async () => {
  const client = createClient(Containers, connection.transport);
  const { container } = await client.get({ id: "a" }, { headers: clientHeaders("ns", "l") });
  assert.deepEqual([container?.id, container?.image, container?.snapshotKey], ["a", "ns", "l"]);
});

test("as many calls as one likes go over one connection, and what is under way on it goes on", async () => {
  const client = createClient(Containers, connection.transport);
  const options = { headers: clientHeaders("ns") };
  const stop = new AbortController();
  const waiting = client.update({}, { signal: stop.signal });
  for (let made = 0; made < 6_000; made += 64) {
    await Promise.all(Array.from({ length: 64 }, () => client.delete({ id: "a" }, options)));
  }
  stop.abort();
  await assert.rejects(waiting, { kind: ErrorKind.Canceled });
});

test("a missing and a bad namespace have containerd's texts", async () => {
  const client = createClient(Containers, connection.transport);
  await assert.rejects(client.get({ id: "a" }), {
    kind: ErrorKind.FailedPrecondition,
    message: "namespace is required: failed precondition",
  });
  await assert.rejects(client.get({ id: "a" }, { headers: clientHeaders("a..b") }), {
    kind: ErrorKind.InvalidArgument,
    message:
      'namespace validation: identifier "a..b" must match ^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$: invalid argument',
  });
});

test("the class of an error survives, told from its neighbours by its text, and is logged once", async () => {
  failures.length = 0;
  const client = createClient(Containers, connection.transport);
  await assert.rejects(client.get({ id: "conflict" }), {
    kind: ErrorKind.Conflict,
    message: "edited elsewhere: ü: conflict",
  });
  assert.equal(failures.length, 1);
  assert.equal(failures[0]?.rpc, "/containerd.services.containers.v1.Containers/Get");
  await assert.rejects(client.get({ id: "bug" }), { kind: ErrorKind.Unknown, message: "broken" });
});

test("an encoded response reaches gRPC and Connect clients alike", async () => {
  const nodeOptions = { createConnection: () => net.connect(socketPath) };
  const transports = [
    connection.transport,
    createGrpcTransport({ baseUrl: "http://x", nodeOptions }),
    createConnectTransport({ baseUrl: "http://x", httpVersion: "2", nodeOptions, useBinaryFormat: false }),
  ];
  for (const transport of transports) {
    const list = await createClient(Containers, transport).list({});
    assert.deepEqual(
      list.containers.map(({ id }) => id),
      ["kept"],
    );
  }
});

test("a request that is taken as it travels, and several answers at a time, are nothing that a client sees", async () => {
  const path = join(directory, "encoded.sock");
  const encoded = (offset: number): EncodedResponse =>
    new EncodedResponse(
      toBinary(ReadContentResponseSchema, create(ReadContentResponseSchema, { offset: BigInt(offset) })),
    );
  const several = await serveRpc({
    socketPath: path,
    services: [
      bindService(Containers, {
        get: handleEncoded((request) => {
          const { id } = fromBinary(GetContainerRequestSchema, request);
          return Promise.resolve({ container: { id } });
        }),
      }),
      bindService(Content, {
        async *read() {
          yield new EncodedResponses([encoded(1), encoded(2)]);
          yield { offset: 3n };
          yield new EncodedResponses(Array.from({ length: 40_000 }, (_, index) => encoded(index)));
        },
      }),
    ],
  });
  const nodeOptions = { createConnection: () => net.connect(path) };
  const fleet = connectRpc(path);
  const transports = [
    fleet.transport,
    createGrpcTransport({ baseUrl: "http://x", nodeOptions }),
    createConnectTransport({ baseUrl: "http://x", httpVersion: "2", nodeOptions, useBinaryFormat: false }),
  ];
  for (const transport of transports) {
    const { container } = await createClient(Containers, transport).get({ id: "wanted" });
    assert.equal(container?.id, "wanted");
    const offsets: bigint[] = [];
    for await (const { offset } of createClient(Content, transport).read({})) {
      offsets.push(offset);
    }
    assert.deepEqual([offsets.length, ...offsets.slice(0, 3), offsets.at(-1)], [40_003, 1n, 2n, 3n, 39_999n]);
  }
  fleet.close();
  await several.close(0);
});

test("a stream ends with its error after its messages", async () => {
  const client = createClient(Content, connection.transport);
  const offsets: bigint[] = [];
  await assert.rejects(
    async () => {
      for await (const { offset } of client.read({ size: 3n })) {
        offsets.push(offset);
      }
    },
    { kind: ErrorKind.DataLoss, message: "no more: data loss" },
  );
  assert.deepEqual(offsets, [0n, 1n, 2n]);
});

test("messages above the limit are refused both ways", async () => {
  const client = createClient(Containers, connection.transport);
  const tooLarge = { kind: ErrorKind.ResourceExhausted, message: /larger than max \(\d+ vs\. 16777216\)/ };
  await assert.rejects(client.create({ container: { id: "a" } }), tooLarge);
  await assert.rejects(client.get({ id: "x".repeat(messageBytesMax + 1) }), tooLarge);
});

test("a deadline ends the call and aborts its handler", async () => {
  const client = createClient(Containers, connection.transport);
  await assert.rejects(client.update({}, { timeoutMs: 20 }), { kind: ErrorKind.DeadlineExceeded });
});

test("unknown methods and services are unimplemented", async () => {
  await assert.rejects(createClient(Version, connection.transport).version({}), { kind: ErrorKind.NotImplemented });
});

test("a call under way is sent again to a restarted server if it has no side effects", async () => {
  const path = join(directory, "y.sock");
  const arrived = Promise.withResolvers<void>();
  let calls = 0;
  const bindings = [
    bindService(Containers, {
      get: () => {
        arrived.resolve();
        return ++calls === 1 ? new Promise(() => undefined) : { container: { id: "second" } };
      },
      delete: () => new Promise(() => undefined),
    }),
  ];
  const options = { socketPath: path, services: bindings };
  const first = await serveRpc(options);
  const restarted = connectRpc(path);
  const client = createClient(Containers, restarted.transport);
  const get = client.get({ id: "a" });
  const remove = client.delete({ id: "a" });
  const removeFails = assert.rejects(remove, (error) => isFailure(error, ErrorKind.Unavailable));
  await arrived.promise;
  const closing = first.close(0);
  await closing;
  const second = await serveRpc(options);
  await removeFails;
  assert.equal((await get).container?.id, "second");
  restarted.close();
  await second.close(0);
});
