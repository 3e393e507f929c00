import assert from "node:assert/strict";
import test from "node:test";
import { create, type DescMessage, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { ContainerCreateSchema } from "#gen/containerd/events/container_pb.ts";
import { NamespaceUpdateSchema } from "#gen/containerd/events/namespace_pb.ts";
import { TaskCreateSchema, TaskExitSchema } from "#gen/containerd/events/task_pb.ts";
import { OptionsSchema } from "#gen/containerd/runc/v1/options_pb.ts";
import { EnvelopeSchema } from "#gen/containerd/types/event_pb.ts";
import { eventFields } from "./event-fields.ts";

function fieldOf<S extends DescMessage>(schema: S, payload: MessageInitShape<S>, path: string): string | undefined {
  const event = { typeUrl: schema.typeName, value: toBinary(schema, create(schema, payload)) };
  return eventFields(create(EnvelopeSchema, { namespace: "ns", event }))(path.split("."));
}

test("fields of a payload are found by their proto names", () => {
  const exit = { containerId: "c", pid: 7, exitStatus: 1, exitedAt: { seconds: 1n } };
  assert.equal(fieldOf(TaskExitSchema, exit, "event.container_id"), "c");
  assert.equal(fieldOf(TaskExitSchema, exit, "event.containerId"), undefined);
  assert.equal(fieldOf(TaskExitSchema, exit, "event.id"), undefined, "an empty string is absent");
  assert.equal(fieldOf(TaskExitSchema, exit, "event.pid"), undefined, "numbers are no fields");
  assert.equal(fieldOf(TaskExitSchema, exit, "event.exited_at.seconds"), undefined);
  assert.equal(fieldOf(TaskExitSchema, exit, "event"), undefined);
  assert.equal(fieldOf(TaskExitSchema, exit, "namespace"), "ns");
  assert.equal(fieldOf(TaskExitSchema, exit, "topic"), undefined);
  assert.equal(fieldOf(TaskExitSchema, exit, "timestamp"), undefined);
});

test("messages, booleans, labels and packed messages are looked into", () => {
  const task = { io: { stdin: "/in", terminal: false }, rootfs: [{ type: "overlay" }] };
  assert.equal(fieldOf(TaskCreateSchema, task, "event.io.stdin"), "/in");
  assert.equal(fieldOf(TaskCreateSchema, task, "event.io.terminal"), "false");
  assert.equal(fieldOf(TaskCreateSchema, {}, "event.io.terminal"), undefined);
  assert.equal(fieldOf(TaskCreateSchema, task, "event.rootfs"), undefined);
  const namespace = { name: "n", labels: { "a.b": "x", empty: "", __proto__: "y" } };
  assert.equal(fieldOf(NamespaceUpdateSchema, namespace, "event.labels.a.b"), "x");
  assert.equal(fieldOf(NamespaceUpdateSchema, namespace, "event.labels.empty"), "");
  assert.equal(fieldOf(NamespaceUpdateSchema, namespace, "event.labels.toString"), undefined);
  const options = {
    typeUrl: OptionsSchema.typeName,
    value: toBinary(OptionsSchema, create(OptionsSchema, { binaryName: "crun" })),
  };
  const container = { runtime: { name: "runc", options } };
  assert.equal(fieldOf(ContainerCreateSchema, container, "event.runtime.name"), "runc");
  assert.equal(fieldOf(ContainerCreateSchema, container, "event.runtime.options.binary_name"), "crun");
});

test("a payload that cannot be decoded has no fields", () => {
  for (const event of [
    { typeUrl: "some.Unknown", value: Buffer.from([]) },
    { typeUrl: TaskExitSchema.typeName, value: Buffer.from([255]) },
  ]) {
    assert.equal(eventFields(create(EnvelopeSchema, { event }))(["event", "container_id"]), undefined);
  }
  assert.equal(eventFields(create(EnvelopeSchema))(["event", "id"]), undefined);
});
