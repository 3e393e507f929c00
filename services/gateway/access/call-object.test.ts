import assert from "node:assert/strict";
import test from "node:test";
import { create, type DescMessage, type MessageInitShape, toBinary, toJsonString } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import { routesByPath } from "#fleet/topology.ts";
import { CreateImageRequestSchema } from "#gen/containerd/services/images/v1/images_pb.ts";
import { ExecProcessRequestSchema } from "#gen/containerd/services/tasks/v1/tasks_pb.ts";
import { TransferRequestSchema } from "#gen/containerd/services/transfer/v1/transfer_pb.ts";
import { ImageStoreSchema } from "#gen/containerd/types/transfer/imagestore_pb.ts";
import { OCIRegistrySchema } from "#gen/containerd/types/transfer/registry_pb.ts";
import { PullImageRequestSchema } from "#gen/runtime/v1/api_pb.ts";
import { type CallObject, ObjectReader, objectFieldsOf } from "./call-object.ts";

const fieldsOf = (method: string): ReturnType<typeof objectFieldsOf> => {
  const route = routesByPath().get(`/${method}`);
  assert.ok(route !== undefined);
  return objectFieldsOf(route.method);
};

function framed(message: Uint8Array, flags = 0): Buffer {
  const prefix = Buffer.alloc(5);
  prefix[0] = flags;
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

/** What is read of a request that comes in pieces of a length. */
function read(method: string, bytes: Buffer, contentType = "application/grpc", pieceBytes = 7): CallObject | undefined {
  const reader = new ObjectReader(fieldsOf(method), contentType);
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    reader.take(bytes, at, Math.min(at + pieceBytes, bytes.length));
  }
  return reader.get();
}

const encode = <D extends DescMessage>(schema: D, init: MessageInitShape<D>): Buffer =>
  Buffer.from(toBinary(schema, create(schema, init)));

const tasksExec = "containerd.services.tasks.v1.Tasks/Exec";
const imagesCreate = "containerd.services.images.v1.Images/Create";
const transfer = "containerd.services.transfer.v1.Transfer/Transfer";

test("the fields that name something are told, in all encodings, and no others", () => {
  const exec = {
    containerId: "box",
    execId: "sh-1",
    stdin: "/run/secret-pipe",
    spec: { typeUrl: "x", value: Buffer.from("TOKEN") },
  };
  assert.deepEqual(read(tasksExec, framed(encode(ExecProcessRequestSchema, exec))), {
    container_id: "box",
    exec_id: "sh-1",
  });
  const image = create(CreateImageRequestSchema, { image: { name: "a/b:c", labels: { token: "hush" } } });
  const expected = { "image.name": "a/b:c" };
  const json = Buffer.from(toJsonString(CreateImageRequestSchema, image));
  assert.deepEqual(read(imagesCreate, json, "application/json"), expected);
  assert.deepEqual(read(imagesCreate, framed(json), "application/connect+json"), expected);
  assert.deepEqual(
    read(imagesCreate, Buffer.from(toBinary(CreateImageRequestSchema, image)), "application/proto"),
    expected,
  );
});

test("credentials of a pull are not told, by the kubelet's call nor by a transfer", () => {
  const pull = {
    image: { image: "registry/app:1" },
    auth: { username: "joe", password: "hush", registryToken: "hush" },
  };
  assert.deepEqual(read("runtime.v1.ImageService/PullImage", framed(encode(PullImageRequestSchema, pull))), {
    "image.image": "registry/app:1",
  });
  const headers = { authorization: "hush" };
  const request = {
    source: anyPack(
      OCIRegistrySchema,
      create(OCIRegistrySchema, { reference: "registry/app:1", resolver: { headers } }),
    ),
    destination: anyPack(ImageStoreSchema, create(ImageStoreSchema, { name: "app", labels: { token: "hush" } })),
  };
  assert.deepEqual(read(transfer, framed(encode(TransferRequestSchema, request))), {
    source: "registry/app:1",
    destination: "app",
  });
});

test("a long message is known by its beginning; what can't be read is left out", () => {
  const long = { containerId: "box", spec: { typeUrl: "x", value: Buffer.alloc(100_000) } };
  assert.deepEqual(read(tasksExec, framed(encode(ExecProcessRequestSchema, long)), "application/grpc", 16_000), {
    container_id: "box",
  });
  const short = encode(ExecProcessRequestSchema, { containerId: "box" });
  assert.equal(read(tasksExec, framed(short, 1)), undefined);
  assert.equal(read(tasksExec, Buffer.from("{"), "application/json"), undefined);
  assert.equal(read(tasksExec, framed(Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]))), undefined);
  assert.equal(read(tasksExec, Buffer.alloc(3)), undefined);
});

test("of a name that is sent twice the last one counts, as for whoever answers", () => {
  const twice = Buffer.concat(["decoy", "box"].map((containerId) => encode(ExecProcessRequestSchema, { containerId })));
  assert.deepEqual(read(tasksExec, framed(twice)), { container_id: "box" });
});

test("every method that changes something names what it is about", () => {
  /** The caller's streams and settings, and stored mounts that have no name. */
  const nameless = [
    "Streaming/Stream",
    "RuntimeService/UpdateRuntimeConfig",
    "RuntimeService/GetContainerEvents",
    "Diff/Diff",
  ];
  const blank = [...routesByPath()]
    .filter(([, { method }]) => method.idempotency !== 1 && objectFieldsOf(method).size === 0)
    .map(([path]) => path.split(".").at(-1) ?? "");
  assert.deepEqual(
    blank.filter((name) => !nameless.includes(name)),
    [],
  );
});
