import assert from "node:assert/strict";
import test from "node:test";
import { create, equals, toBinary } from "@bufbuild/protobuf";
import * as fc from "fast-check";
import { ContainerCreateSchema } from "#gen/containerd/events/container_pb.ts";
import { EnvelopeSchema } from "#gen/containerd/types/event_pb.ts";
import { MessageMaker, readMessage, subjectOf } from "./cloud-event.ts";
import type { Question, Reply } from "./link.ts";

const publisher = { stream: "containerd", source: "/flotilla/here", host: "häst" };
const messages = new MessageMaker(publisher);

function headersIn({ headers }: Question): Map<string, string> {
  const lines = headers.split("\r\n");
  assert.equal(lines.pop(), "");
  return new Map(lines.map((line) => [line.slice(0, line.indexOf(": ")), line.slice(line.indexOf(": ") + 2)]));
}

function storedAs(message: Question, sequence: number): Reply {
  const all = headersIn(message).set("Nats-Sequence", String(sequence));
  return { status: 0, header: (name) => all.get(name), body: message.body };
}

const identifier = fc.stringMatching(/^[A-Za-z0-9]+([._-][A-Za-z0-9]+){0,2}$/);
const topic = fc.array(identifier, { minLength: 1, maxLength: 4 }).map((parts) => `/${parts.join("/")}`);

test("an envelope comes back as it went, whatever it holds", () => {
  const envelopes = fc.record({
    namespace: fc.string({ unit: "grapheme" }),
    topic: fc.oneof(topic, fc.string({ unit: "grapheme", maxLength: 3000 })),
    typeUrl: fc.oneof(fc.constant("containerd.events.TaskExit"), fc.string()),
    value: fc.uint8Array({ maxLength: 64 }),
    seconds: fc.bigInt({ min: -62_135_596_800n, max: 253_402_300_799n }),
    nanos: fc.integer({ min: 0, max: 999_999_999 }),
  });
  fc.assert(
    fc.property(envelopes, ({ typeUrl, value, seconds, nanos, ...head }) => {
      const envelope = create(EnvelopeSchema, { ...head, event: { typeUrl, value }, timestamp: { seconds, nanos } });
      const message = messages.make({ messageId: "id", envelope });
      for (const [name, text] of headersIn(message)) {
        assert.match(text, /^[ -~]*$/, name);
        assert.match(name, /^[A-Za-z-]+$/);
      }
      assert.match(message.subject, /^[\w:=~-]+(\.[\w:=~-]+)*$/);
      assert.ok(message.subject.length <= 1024);
      assert.ok(JSON.parse(Buffer.from(message.body).toString()) !== null);
      const read = readMessage(storedAs(message, 7), publisher.source);
      assert.ok(read !== undefined && read.sequence === 7 && equals(EnvelopeSchema, read.envelope, envelope));
    }),
  );
});

test("a large envelope travels as the body", () => {
  const envelope = create(EnvelopeSchema, { topic: "/a", event: { typeUrl: "t", value: Buffer.alloc(100_000, 1) } });
  const message = messages.make({ messageId: "id", envelope });
  assert.ok(message.headers.length < 60_000);
  assert.equal(headersIn(message).get("content-type"), "application/protobuf");
  assert.ok(Buffer.from(message.body).equals(Buffer.from(toBinary(EnvelopeSchema, envelope))));
  const read = readMessage(storedAs(message, 1), publisher.source);
  assert.ok(read !== undefined && equals(EnvelopeSchema, read.envelope, envelope));
});

test("events of other daemons are left alone", () => {
  const message = messages.make({ messageId: "id", envelope: create(EnvelopeSchema) });
  assert.equal(readMessage(storedAs(message, 1), "/flotilla/there"), undefined);
  assert.equal(
    readMessage({ status: 0, header: () => undefined, body: Buffer.from("hello") }, publisher.source),
    undefined,
  );
});

test("two events have the same subject only if namespace and topic are the same", () => {
  assert.equal(
    subjectOf("containerd", { namespace: "k8s.io", topic: "/tasks/exec-added" }),
    "containerd.k8s:io.tasks.exec-added",
  );
  const pairs = fc.tuple(identifier, topic);
  fc.assert(
    fc.property(pairs, pairs, ([namespaceA, topicA], [namespaceB, topicB]) => {
      const subjects = [
        subjectOf("s", { namespace: namespaceA, topic: topicA }),
        subjectOf("s", { namespace: namespaceB, topic: topicB }),
      ];
      assert.equal(subjects[0] === subjects[1], namespaceA === namespaceB && topicA === topicB);
    }),
  );
});

test("the body is the payload as JSON, with what it holds inside", () => {
  const value = toBinary(
    ContainerCreateSchema,
    create(ContainerCreateSchema, {
      id: "c",
      runtime: { name: "runc", options: { typeUrl: "some.Unknown", value: Buffer.from("x") } },
    }),
  );
  const body = (typeUrl: string, payload: Uint8Array): unknown => {
    const envelope = create(EnvelopeSchema, { event: { typeUrl, value: payload } });
    return JSON.parse(Buffer.from(messages.make({ messageId: "id", envelope }).body).toString());
  };
  const plain = toBinary(ContainerCreateSchema, create(ContainerCreateSchema, { id: "c", image: "i" }));
  assert.deepEqual(body("containerd.events.ContainerCreate", plain), { id: "c", image: "i" });
  assert.deepEqual(body("containerd.events.ContainerCreate", value), {
    "@type": "containerd.events.ContainerCreate",
    value: Buffer.from(value).toString("base64"),
  });
  assert.deepEqual(body("some.Unknown", Buffer.from("x")), { "@type": "some.Unknown", value: "eA==" });
});
