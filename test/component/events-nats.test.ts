import assert from "node:assert/strict";
import { readFile, stat } from "node:fs/promises";
import { after, before, describe, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { TaskOOMSchema } from "#gen/containerd/events/task_pb.ts";
import { EnvelopeSchema } from "#gen/containerd/types/event_pb.ts";
import { EventLog } from "#gen/flotilla/events/v1/log_pb.ts";
import { dialNats } from "../../services/events/bus/nats.ts";
import { Subscriber } from "./event-subscriber.ts";
import { EventsProcess, type FleetHome, makeFleetHome } from "./events-process.ts";
import { NatsServer } from "./nats-server.ts";
import { NatsUser } from "./nats-user.ts";

let home: FleetHome & AsyncDisposable;
let events: EventsProcess;
let root: string;

before(async () => {
  home = await makeFleetHome();
  events = await EventsProcess.start(home);
  root = `${home.config.root}/io.flotilla.events.v1.nats`;
});

after(async () => {
  await events[Symbol.asyncDispose]();
  await home[Symbol.asyncDispose]();
});

async function subscriberUrl(): Promise<string> {
  return (await readFile(`${root}/subscriber.url`, "utf8")).trim();
}

const envelope = create(EnvelopeSchema, {
  timestamp: { seconds: 1_700_000_000n, nanos: 5 },
  namespace: "k8s.io",
  topic: "/tasks/oom",
  event: {
    typeUrl: TaskOOMSchema.typeName,
    value: toBinary(TaskOOMSchema, create(TaskOOMSchema, { containerId: "hungry" })),
  },
});

describe("what users of NATS meet", () => {
  test("an event is a CloudEvent whose body is JSON, with the envelope in a header", async () => {
    using user = await NatsUser.connect(await subscriberUrl());
    user.send("SUB containerd.> 1");
    await user.settled();
    await createClient(EventLog, events.transport).append({ records: [{ messageId: "oom-1", envelope }] });
    const message = await user.until(/HMSG (\S+) 1 .*\r\nNATS\/1\.0\r\n([^]*?)\r\n\r\n([^]*?)\r\n$/);
    assert.equal(message[1], "containerd.k8s:io.tasks.oom");
    const headers = new Map((message[2] ?? "").split("\r\n").map((line) => line.split(": ", 2) as [string, string]));
    assert.equal(headers.get("Nats-Msg-Id"), "oom-1");
    assert.equal(headers.get("ce-id"), "oom-1");
    assert.equal(headers.get("ce-specversion"), "1.0");
    assert.equal(headers.get("ce-type"), "containerd.events.TaskOOM");
    assert.equal(headers.get("ce-subject"), "/tasks/oom");
    assert.equal(headers.get("ce-namespace"), "k8s.io");
    assert.equal(headers.get("ce-time"), "2023-11-14T22:13:20.000000005Z");
    assert.match(headers.get("ce-source") ?? "", /^\/flotilla\/[0-9a-f-]{36}$/);
    assert.equal(headers.get("content-type"), "application/json");
    assert.equal(headers.get("flotilla-envelope"), Buffer.from(toBinary(EnvelopeSchema, envelope)).toString("base64"));
    assert.deepEqual(JSON.parse(message[3] ?? ""), { containerId: "hungry" });
  });

  test("the subscriber may read and nothing else", async () => {
    using user = await NatsUser.connect(await subscriberUrl());
    user.send("PUB containerd.moby.tasks.exit 2", "{}");
    await user.until(/-ERR 'Permissions Violation for Publish to "containerd\.moby\.tasks\.exit"'/);
    user.send("PUB $JS.API.STREAM.DELETE.containerd 2", "{}");
    await user.until(/-ERR 'Permissions Violation for Publish to "\$JS\.API\.STREAM\.DELETE\.containerd"'/);
    user.send("SUB _FLOTILLA.> 2");
    await user.until(/-ERR 'Permissions Violation for Subscription to "_FLOTILLA\.>"'/);
    user.send("SUB _INBOX.me 3", "PUB $JS.API.STREAM.INFO.containerd _INBOX.me 0", "");
    await user.until(/"last_seq":[1-9]/);
  });

  test("who has the subscriber's key reads without a word that another could repeat", async () => {
    const seed = (await readFile(`${root}/subscriber.nk`, "utf8")).trim();
    const { port } = new URL(await subscriberUrl());
    const link = await dialNats({ url: `nats://127.0.0.1:${port}`, seed });
    await link.close();
  });

  test("strangers are not let in, and secrets are for root alone", async () => {
    const url = new URL(await subscriberUrl());
    assert.match(url.href, /^nats:\/\/subscriber:[\w-]+@127\.0\.0\.1:\d+$/);
    using stranger = await NatsUser.connect(`nats://127.0.0.1:${url.port}`);
    await stranger.until(/-ERR 'Authorization Violation'/);
    const secrets = ["server.json", "subscriber.url", "subscriber.nk"].map((name) => `${root}/${name}`);
    for (const path of [...secrets, `${home.config.state}/events/nats-server.conf`]) {
      assert.equal((await stat(path)).mode & 0o777, 0o600, path);
    }
    const { fleetSeed } = JSON.parse(await readFile(`${root}/server.json`, "utf8"));
    assert.ok(!(await readFile(`${home.config.state}/events/nats-server.conf`, "utf8")).includes(fleetSeed));
  });

  test("daemons may share a server elsewhere, and each sees its own events", async () => {
    await using nats = await NatsServer.start();
    const shared = `url = "${nats.url}"\nstream = "shared"\nretention_bytes = 1048576`;
    await using resources = new AsyncDisposableStack();
    const openDaemon = async () => resources.use(await EventsProcess.start(resources.use(await makeFleetHome(shared))));
    const [one, other] = [await openDaemon(), await openDaemon()];
    assert.deepEqual([one.natsPid, other.natsPid], [undefined, undefined]);
    const append = (daemon: EventsProcess, topic: string) =>
      createClient(EventLog, daemon.transport).append({
        records: [{ messageId: topic, envelope: { ...envelope, topic } }],
      });
    await append(one, "/one/first");
    await append(other, "/other/first");
    await append(one, "/one/second");
    const headers = { "flotilla-since-sequence": "1" };
    await using ownEvents = await Subscriber.start(one.transport, { headers });
    assert.deepEqual(await ownEvents.topics(2), ["/one/first", "/one/second"]);
    await using otherEvents = await Subscriber.start(other.transport, { headers });
    assert.deepEqual(await otherEvents.topics(1), ["/other/first"]);
  });
});
