import assert from "node:assert/strict";
import { readFile, stat } from "node:fs/promises";
import { after, before, describe, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { TaskOOMSchema } from "#gen/containerd/events/task_pb.ts";
import { EnvelopeSchema } from "#gen/containerd/types/event_pb.ts";
import { EventLog } from "#gen/flotilla/events/v1/log_pb.ts";
import { natsServerMember } from "../../services/gateway/nats-server.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";
import { Subscriber } from "./event-subscriber.ts";
import { EventsProcess, NatsServer, writeConfig } from "./events-process.ts";
import { NatsUser } from "./nats-user.ts";

let nats: NatsServer;
let events: EventsProcess;
let root: string;

before(async () => {
  nats = await NatsServer.start();
  events = await EventsProcess.start(nats);
  root = `${nats.config.root}/io.flotilla.events.v1.nats`;
});

after(async () => {
  await events[Symbol.asyncDispose]();
  await nats[Symbol.asyncDispose]();
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

  test("strangers are not let in, and passwords are for root alone", async () => {
    const { url } = await nats.address();
    using stranger = await NatsUser.connect(url);
    await stranger.until(/-ERR 'Authorization Violation'/);
    const secrets = [`${root}/server.json`, `${root}/subscriber.url`];
    secrets.push(`${nats.config.state}/nats.json`, `${nats.config.state}/nats-server.conf`);
    for (const path of secrets) {
      assert.equal((await stat(path)).mode & 0o777, 0o600, path);
    }
    assert.match(url, /^nats:\/\/127\.0\.0\.1:\d+$/);
  });

  test("daemons may share a server elsewhere, and each sees its own events", async () => {
    const { url, user, password } = await nats.address();
    const shared = `url = "${url.replace("//", `//${user}:${password}@`)}"\nstream = "shared"\nretention_bytes = 1048576`;
    await using resources = new AsyncDisposableStack();
    const openDaemon = async () => {
      const home = resources.use(await makeTemporaryDirectory("ev"));
      const config = await writeConfig(home.path, shared);
      assert.equal(await natsServerMember(config), undefined);
      return resources.use(await EventsProcess.start({ directory: home.path, config }));
    };
    const [one, other] = [await openDaemon(), await openDaemon()];
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

  test("a daemon that starts again keeps the URL, unless somebody else has taken the port", async () => {
    const before = await subscriberUrl();
    await nats.kill();
    await natsServerMember(nats.config);
    assert.equal(await subscriberUrl(), before);
    await nats.restart();
    await natsServerMember(nats.config);
    const moved = await subscriberUrl();
    assert.notEqual(moved, before);
    assert.equal(new URL(moved).password, new URL(before).password);
  });
});
