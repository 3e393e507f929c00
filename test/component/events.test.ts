import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { stat } from "node:fs/promises";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { create, toBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { execa } from "execa";
import { ErrorKind } from "#base/errors.ts";
import { ContainerCreateSchema } from "#gen/containerd/events/container_pb.ts";
import { NamespaceCreateSchema } from "#gen/containerd/events/namespace_pb.ts";
import { TaskExitSchema } from "#gen/containerd/events/task_pb.ts";
import { Events as TtrpcEvents } from "#gen/containerd/services/events/ttrpc/v1/events_pb.ts";
import { Events } from "#gen/containerd/services/events/v1/events_pb.ts";
import { ImageCreateSchema } from "#gen/containerd/services/images/v1/images_pb.ts";
import { EventLog } from "#gen/flotilla/events/v1/log_pb.ts";
import { Member } from "#gen/flotilla/fleet/v1/fleet_pb.ts";
import { clientHeaders } from "#wire/headers.ts";
import { connectTtrpc } from "#wire/ttrpc/client.ts";
import { Subscriber } from "./event-subscriber.ts";
import { EventsProcess, type FleetHome, makeFleetHome } from "./events-process.ts";

interface Envelope {
  readonly timestamp: { readonly seconds: bigint; readonly nanos: number };
  readonly namespace: string;
  readonly topic: string;
  readonly event: { readonly typeUrl: string; readonly value: Uint8Array };
}

/** Seconds that Go's zero time has. */
const goZeroSeconds = -62_135_596_800n;

let home: FleetHome & AsyncDisposable;
let events: EventsProcess;

before(async () => {
  home = await makeFleetHome();
  events = await EventsProcess.start(home);
});

after(async () => {
  await events[Symbol.asyncDispose]();
  await home[Symbol.asyncDispose]();
});

function taskExit(containerId: string, namespace = "moby"): Envelope {
  return {
    timestamp: { seconds: 1_700_000_000n, nanos: 123_456_789 },
    namespace,
    topic: "/tasks/exit",
    event: {
      typeUrl: TaskExitSchema.typeName,
      value: toBinary(TaskExitSchema, create(TaskExitSchema, { containerId, id: "exec", pid: 7, exitStatus: 3 })),
    },
  };
}

function client() {
  return createClient(Events, events.transport);
}

describe("the events process", () => {
  test("carries containerd's plugins and its own", async () => {
    const { plugins } = await createClient(Member, events.transport).describe({});
    assert.deepEqual(
      plugins.map(({ type, id, requires, initErr }) => [type, id, requires.join(), initErr?.message]),
      [
        ["io.flotilla.events.v1", "nats", "", undefined],
        ["io.containerd.event.v1", "exchange", "", undefined],
        ["io.containerd.grpc.v1", "events", "io.containerd.event.v1", undefined],
      ],
    );
  });

  test("publishes what a client sends, with its namespace and the time", async () => {
    await using subscriber = await Subscriber.start(events.transport);
    const startedMs = Date.now();
    const event = { typeUrl: "example.Unknown", value: Buffer.from([1, 2, 3]) };
    await client().publish({ topic: "/one/two.three", event }, { headers: clientHeaders("k8s.io") });
    const seen = await subscriber.next();
    assert.equal(seen.namespace, "k8s.io");
    assert.equal(seen.topic, "/one/two.three");
    assert.equal(seen.event?.typeUrl, "example.Unknown");
    assert.deepEqual([...(seen.event?.value ?? [])], [1, 2, 3]);
    const seenMs = Number(seen.timestamp?.seconds) * 1000 + (seen.timestamp?.nanos ?? 0) / 1e6;
    assert.ok(seenMs >= startedMs - 1 && seenMs <= Date.now() + 1, String(seenMs));
  });

  test("forwards an envelope as it is, over gRPC and ttrpc", async () => {
    await using subscriber = await Subscriber.start(events.transport);
    await client().forward({ envelope: taskExit("over-grpc") });
    const shim = await connectTtrpc(events.ttrpcSocketPath);
    try {
      await shim.unary(TtrpcEvents.method.forward, { envelope: taskExit("over-ttrpc", "default") });
    } finally {
      shim.close();
    }
    const first = await subscriber.next();
    assert.deepEqual(first.timestamp && [first.timestamp.seconds, first.timestamp.nanos], [
      1_700_000_000n,
      123_456_789,
    ]);
    assert.deepEqual(Buffer.from(first.event?.value ?? []), Buffer.from(taskExit("over-grpc").event.value));
    const second = await subscriber.next();
    assert.equal(second.namespace, "default");
    assert.equal((await stat(events.ttrpcSocketPath)).mode & 0o777, 0o600);
  });

  test("an event that a shim repeats is seen once", async () => {
    await using subscriber = await Subscriber.start(events.transport);
    const shim = await connectTtrpc(events.ttrpcSocketPath);
    try {
      for (const id of ["told-once", "told-twice", "told-twice", "told-last"]) {
        await shim.unary(TtrpcEvents.method.forward, { envelope: { ...taskExit(id), topic: `/${id}` } });
      }
    } finally {
      shim.close();
    }
    assert.deepEqual(await subscriber.topics(3), ["/told-once", "/told-twice", "/told-last"]);
  });

  test("refuses with containerd's texts", async () => {
    const publish = (topic: string, namespace?: string) => () =>
      client().publish({ topic }, namespace === undefined ? {} : { headers: clientHeaders(namespace) });
    const forward = (envelope: Envelope) => () => client().forward({ envelope });
    const cases: [call: () => Promise<unknown>, kind: ErrorKind, message: string][] = [
      [
        publish("/a"),
        ErrorKind.FailedPrecondition,
        "failed publishing event: namespace is required: failed precondition",
      ],
      [publish("", "ns"), ErrorKind.InvalidArgument, 'envelope topic "": must not be empty: invalid argument'],
      [publish("a/b", "ns"), ErrorKind.InvalidArgument, `envelope topic "a/b": must start with '/': invalid argument`],
      [
        publish("/", "ns"),
        ErrorKind.InvalidArgument,
        'envelope topic "/": must have at least one component: invalid argument',
      ],
      [
        publish("/a//b", "ns"),
        ErrorKind.InvalidArgument,
        'envelope topic "/a//b": failed validation on component "": identifier must not be empty: invalid argument',
      ],
      [
        forward({ ...taskExit("x"), namespace: "" }),
        ErrorKind.InvalidArgument,
        "event envelope has invalid namespace: identifier must not be empty: invalid argument",
      ],
      [
        forward({ ...taskExit("x"), timestamp: { seconds: goZeroSeconds, nanos: 0 } }),
        ErrorKind.InvalidArgument,
        "timestamp must be set on forwarded event: invalid argument",
      ],
      [
        () => Subscriber.start(events.transport, { filters: ["namespace==moby", "topic="] }),
        ErrorKind.Unknown,
        "subscription error: failed parsing subscription filters: " +
          'filters: parse error: [topic >|=|< ]: unsupported operator "=": invalid argument',
      ],
      [
        () => Subscriber.start(events.transport, { headers: { "flotilla-since-time": "yesterday" } }),
        ErrorKind.InvalidArgument,
        "header flotilla-since-time is no time as in 2006-01-02T15:04:05.999999999Z: invalid argument",
      ],
      [
        () => Subscriber.start(events.transport, { headers: { "flotilla-since-sequence": "-1" } }),
        ErrorKind.InvalidArgument,
        "header flotilla-since-sequence is no sequence number: invalid argument",
      ],
    ];
    for (const [call, kind, message] of cases) {
      await assert.rejects(call, { kind, message });
    }
  });

  test("an event beyond 4 MiB is refused, one below is not", async () => {
    await using subscriber = await Subscriber.start(events.transport);
    const envelope = (sizeBytes: number): Envelope => ({
      ...taskExit("x"),
      topic: "/large",
      event: { typeUrl: "example.Large", value: Buffer.alloc(sizeBytes, 1) },
    });
    await assert.rejects(client().forward({ envelope: envelope(4 * 1024 * 1024) }), {
      kind: ErrorKind.ResourceExhausted,
    });
    await client().forward({ envelope: envelope(4 * 1024 * 1024 - 1024) });
    assert.equal((await subscriber.next()).event?.value.byteLength, 4 * 1024 * 1024 - 1024);
  });

  test("each subscriber sees what one of its filters passes", async () => {
    const published: Envelope[] = [
      taskExit("c1"),
      { ...taskExit("c1"), topic: "/tasks/unknown", event: { typeUrl: "example.Unknown", value: Buffer.from("x") } },
      {
        ...taskExit(""),
        namespace: "default",
        topic: "/containers/create",
        event: {
          typeUrl: `type.googleapis.com/${ContainerCreateSchema.typeName}`,
          value: toBinary(
            ContainerCreateSchema,
            create(ContainerCreateSchema, { id: "c2", runtime: { name: "runc" } }),
          ),
        },
      },
      {
        ...taskExit(""),
        namespace: "default",
        topic: "/namespaces/create",
        event: {
          typeUrl: NamespaceCreateSchema.typeName,
          value: toBinary(NamespaceCreateSchema, create(NamespaceCreateSchema, { labels: { "a.b": "" } })),
        },
      },
      {
        ...taskExit(""),
        namespace: "default",
        topic: "/images/create",
        event: {
          typeUrl: ImageCreateSchema.typeName,
          value: toBinary(ImageCreateSchema, create(ImageCreateSchema, { name: "docker.io/library/busybox:1" })),
        },
      },
      { ...taskExit("end"), namespace: "end", topic: "/end" },
    ];
    const cases: [filters: string[], topics: string[]][] = [
      [["namespace==moby,topic~=|^/tasks/|"], ["/tasks/exit", "/tasks/unknown"]],
      [["event.container_id==c1"], ["/tasks/exit"]],
      [["event.container_id!=c1,namespace==moby"], ["/tasks/unknown"]],
      [["event.exit_status"], []],
      [["event.runtime.name==runc"], ["/containers/create"]],
      [["event.id"], ["/tasks/exit", "/containers/create"]],
      [["event.labels.a.b"], ["/namespaces/create"]],
      [
        ["event.name~=busybox", 'topic=="/tasks/exit"'],
        ["/tasks/exit", "/images/create"],
      ],
      [['topic=="/nothing"'], []],
    ];
    const subscribers = await Promise.all(
      cases.map(([filters]) => Subscriber.start(events.transport, { filters: [...filters, "namespace==end"] })),
    );
    for (const envelope of published) {
      await client().forward({ envelope });
    }
    for (const [index, [filters, topics]] of cases.entries()) {
      const subscriber = subscribers[index];
      assert.ok(subscriber);
      // A payload of type TaskExit matches `event.id` in the last event as well, which ends every list.
      assert.deepEqual(await subscriber.topics(topics.length + 1), [...topics, "/end"], filters.join());
      await subscriber[Symbol.asyncDispose]();
    }
  });

  test("replays since a sequence and since a time", async () => {
    const log = createClient(EventLog, events.transport);
    const append = (name: string) =>
      log.append({
        records: [{ messageId: `replay-${name}`, envelope: { ...taskExit(name), topic: `/replay/${name}` } }],
      });
    await append("first");
    await delay(5);
    const sinceTime = new Date().toISOString();
    await append("second");
    await append("third");
    const filters = ["topic~=^/replay/"];
    await using all = await Subscriber.start(events.transport, {
      filters,
      headers: { "flotilla-since-sequence": "1" },
    });
    assert.deepEqual(await all.topics(3), ["/replay/first", "/replay/second", "/replay/third"]);
    await using late = await Subscriber.start(events.transport, {
      filters,
      headers: { "flotilla-since-time": sinceTime },
    });
    assert.deepEqual(await late.topics(2), ["/replay/second", "/replay/third"]);
    await append("fourth");
    assert.deepEqual(await all.topics(1), ["/replay/fourth"]);
  });

  test("Debian's own containerd publishes and ctr sees it", async () => {
    const ctr = spawn("ctr", ["--address", events.socketPath, "events"], { stdio: ["ignore", "pipe", "ignore"] });
    try {
      const lines = ctr.stdout.setEncoding("utf8")[Symbol.asyncIterator]();
      // ctr does not say when it is subscribed, so the event is published until it has been seen.
      const seen = lines.next();
      const done = seen.then(() => true);
      while (!(await Promise.race([done, delay(1, false)]))) {
        const { exitCode, stderr } = await execa({
          input: toBinary(AnySchema, create(AnySchema, taskExit("from-containerd").event)),
          reject: false,
        })`containerd --address ${events.socketPath} publish --topic /tasks/exit --namespace shell`;
        assert.equal(exitCode, 0, stderr);
      }
      assert.match(String((await seen).value), / shell \/tasks\/exit /);
    } finally {
      ctr.kill("SIGKILL");
      await once(ctr, "exit");
    }
  });
});
