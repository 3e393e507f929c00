import assert from "node:assert/strict";
import test from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { DescService } from "@bufbuild/protobuf";
import { type Client, createClient } from "@connectrpc/connect";
import { privateSocketOf } from "#fleet/process-name.ts";
import { Containers } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import { Content } from "#gen/containerd/services/content/v1/content_pb.ts";
import { Images } from "#gen/containerd/services/images/v1/images_pb.ts";
import { Leases } from "#gen/containerd/services/leases/v1/leases_pb.ts";
import { Namespaces } from "#gen/containerd/services/namespaces/v1/namespaces_pb.ts";
import { Store } from "#gen/containerd/services/sandbox/v1/sandbox_pb.ts";
import { Snapshots } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import { BlobIndex, MountIndex, SnapshotIndex, SnapshotKind } from "#gen/flotilla/index/v1/index_pb.ts";
import { Health } from "#gen/grpc/health/v1/health_pb.ts";
import { connectRpc } from "#wire/client.ts";
import { openMuteWay } from "../kit/mute-way.ts";
import { inNamespace, MetadataProcess } from "./metadata-process.ts";

const bounded = { timeout: 120_000 };
const runtime = { name: "io.containerd.runc.v2" };
const digest = `sha256:${"a".repeat(64)}`;
const snapshotter = "native";
const target = { mediaType: "m", digest, size: 1n };
const container = { id: "c", runtime, spec: { typeUrl: "spec", value: Buffer.from("{}") } };

/** Calls in a namespace of their own. */
class Caller {
  readonly namespace: string;
  readonly client: <S extends DescService>(service: S) => Client<S>;

  constructor(namespace: string, client: <S extends DescService>(service: S) => Client<S>) {
    this.namespace = namespace;
    this.client = client;
  }

  get ns(): { readonly headers: Record<string, string> } {
    return inNamespace(this.namespace);
  }
}

const addNamespace = ({ client, namespace }: Caller) => client(Namespaces).create({ namespace: { name: namespace } });
const addContainer = ({ client, ns }: Caller) => client(Containers).create({ container }, ns);
const addImage = ({ client, ns }: Caller) => client(Images).create({ image: { name: "i", target } }, ns);
const addLease = ({ client, ns }: Caller) => client(Leases).create({ id: "l" }, ns);
const sandbox = { sandboxId: "s", runtime };
const addSandbox = ({ client, ns }: Caller) => client(Store).create({ sandbox }, ns);
const openIngest = ({ client, namespace }: Caller) => client(BlobIndex).openIngest({ namespace, ref: "r" });
const recordBlob = ({ client, namespace }: Caller) =>
  client(BlobIndex).recordBlob({ namespace, ref: "r", digest, size: 1n });
const addBlob = async (caller: Caller) => [await openIngest(caller), await recordBlob(caller)];
const prepare = ({ client, namespace }: Caller) =>
  client(SnapshotIndex).prepareSnapshot({ namespace, snapshotter, key: "k", kind: SnapshotKind.ACTIVE });
const addMount = ({ client, namespace }: Caller) => client(MountIndex).addMount({ namespace, name: "m" });

/** What nothing refers to would not last until its call is made again. */
const withoutCollector = `[plugins."io.containerd.gc.v1.scheduler"]\n  startup_delay = "1h"\n`;

interface ChangingCall {
  /** Makes what has to be there. */
  readonly before?: (caller: Caller) => Promise<unknown>;
  readonly call: (caller: Caller) => Promise<unknown>;
  /** The event of the change, if it has one. */
  readonly topic?: string;
}

/** One of each kind. Done twice, they would fail, or tell the world twice. */
const calls: Readonly<Record<string, ChangingCall>> = {
  "namespaces-create": { call: addNamespace, topic: "/namespaces/create" },
  "namespaces-update": {
    call: ({ client, namespace: name }) => client(Namespaces).update({ namespace: { name, labels: { a: "b" } } }),
    topic: "/namespaces/update",
  },
  "namespaces-delete": {
    before: addNamespace,
    call: ({ client, namespace: name }) => client(Namespaces).delete({ name }),
    topic: "/namespaces/delete",
  },
  "containers-create": { call: addContainer, topic: "/containers/create" },
  "containers-update": {
    before: addContainer,
    call: ({ client, ns }) => client(Containers).update({ container: { ...container, labels: { a: "b" } } }, ns),
    topic: "/containers/update",
  },
  "containers-delete": {
    before: addContainer,
    call: ({ client, ns }) => client(Containers).delete({ id: "c" }, ns),
    topic: "/containers/delete",
  },
  "images-create": { call: addImage, topic: "/images/create" },
  "images-update": {
    before: addImage,
    call: ({ client, ns }) => client(Images).update({ image: { name: "i", target, labels: { a: "b" } } }, ns),
    topic: "/images/update",
  },
  "images-delete": {
    before: addImage,
    call: ({ client, ns }) => client(Images).delete({ name: "i" }, ns),
    topic: "/images/delete",
  },
  "leases-create": { call: addLease },
  "leases-delete": { before: addLease, call: ({ client, ns }) => client(Leases).delete({ id: "l" }, ns) },
  "leases-add": {
    before: addLease,
    call: ({ client, ns }) => client(Leases).addResource({ id: "l", resource: { type: "content", id: digest } }, ns),
  },
  "sandboxes-create": { call: addSandbox },
  "sandboxes-update": {
    before: addSandbox,
    call: ({ client, ns }) => client(Store).update({ sandbox: { ...sandbox, labels: { a: "b" } } }, ns),
  },
  "sandboxes-delete": { before: addSandbox, call: ({ client, ns }) => client(Store).delete({ sandboxId: "s" }, ns) },
  "content-update": {
    before: addBlob,
    call: ({ client, ns }) => client(Content).update({ info: { digest, labels: { a: "b" } } }, ns),
  },
  "content-delete": {
    before: addBlob,
    call: ({ client, ns }) => client(Content).delete({ digest }, ns),
    topic: "/content/delete",
  },
  "snapshots-update": {
    before: prepare,
    call: ({ client, ns }) => client(Snapshots).update({ snapshotter, info: { name: "k", labels: { a: "b" } } }, ns),
  },
  "snapshots-remove": {
    before: prepare,
    call: ({ client, ns }) => client(Snapshots).remove({ snapshotter, key: "k" }, ns),
    topic: "/snapshot/remove",
  },
  "ingests-open": { call: openIngest },
  "ingests-commit": { before: openIngest, call: recordBlob },
  "ingests-remove": {
    before: openIngest,
    call: ({ client, namespace }) => client(BlobIndex).removeIngest({ namespace, ref: "r" }),
  },
  "snapshots-prepare": { call: prepare, topic: "/snapshot/prepare" },
  "snapshots-commit": {
    before: prepare,
    call: ({ client, namespace }) =>
      client(SnapshotIndex).commitSnapshot({ namespace, snapshotter, key: "k", name: "n" }),
    topic: "/snapshot/commit",
  },
  "mounts-add": { call: addMount },
  "mounts-remove": {
    before: addMount,
    call: ({ client, namespace }) => client(MountIndex).removeMount({ namespace, name: "m" }),
  },
};

test(
  "calls whose process dies after the change and before the answer succeed, and change nothing twice",
  bounded,
  async (context) => {
    const process = await MetadataProcess.start(context, { config: withoutCollector });
    await process.loadSnapshotters(snapshotter);
    const { neighbours } = process;
    const socketPath = privateSocketOf(`${process.directory}/state`, "metadata");
    await using ways = new AsyncDisposableStack();
    const answers: Record<string, Promise<unknown>> = {};
    const unmute: (() => void)[] = [];
    for (const [namespace, { before, call }] of Object.entries(calls)) {
      const way = ways.use(await openMuteWay(socketPath));
      const connection = connectRpc(way.socketPath, { keepsCalls: true });
      ways.defer(() => connection.close());
      const caller = new Caller(namespace, (service) => createClient(service, connection.transport));
      await caller.client(Health).check({});
      await before?.(caller);
      const swallowed = way.mute();
      answers[namespace] = call(caller);
      await Promise.race([swallowed, answers[namespace].then(() => assert.fail(`${namespace} was answered`))]);
      unmute.push(() => way.unmute());
    }
    await process.kill();
    for (const each of unmute) {
      each();
    }
    await process.restart();
    for (const [namespace, answer] of Object.entries(answers)) {
      await answer.catch((error: unknown) => assert.fail(`${namespace}: ${String(error)}`));
    }
    await process.client(Namespaces).create({ namespace: { name: "last" } });
    const told = () => new Map(neighbours.events.map(({ messageId, envelope }) => [messageId, envelope]));
    await neighbours.until(() => [...told().values()].some((envelope) => envelope?.namespace === "last"));
    for (const [namespace, { topic }] of Object.entries(calls)) {
      if (topic !== undefined) {
        const events = [...told().values()].filter((event) => event?.namespace === namespace && event.topic === topic);
        assert.equal(events.length, 1, namespace);
      }
    }
  },
);

test(
  "a refused change is refused again, and one that came too late for its answer is not taken for done",
  bounded,
  async (context) => {
    const process = await MetadataProcess.start(context);
    await using way = await openMuteWay(privateSocketOf(`${process.directory}/state`, "metadata"));
    const connection = connectRpc(way.socketPath, { keepsCalls: true });
    context.after(() => connection.close());
    const caller = new Caller("refused", (service) => createClient(service, connection.transport));
    await addContainer(caller);
    const swallowed = way.mute();
    const answers = Promise.allSettled([
      addContainer(caller),
      caller.client(Containers).delete({ id: "never" }, caller.ns),
    ]);
    await swallowed;
    await process.kill();
    way.unmute();
    await process.restart();
    const reasons = (await answers).map((answer) => (answer.status === "rejected" ? String(answer.reason) : "done"));
    assert.match(reasons[0] ?? "", /already exists/);
    assert.match(reasons[1] ?? "", /not found/);
  },
);

test("kill -9 again and again under load: every change succeeds, once", bounded, async (context) => {
  const process = await MetadataProcess.start(context);
  const connection = connectRpc(privateSocketOf(`${process.directory}/state`, "metadata"), { keepsCalls: true });
  context.after(() => connection.close());
  const caller = new Caller("load", (service) => createClient(service, connection.transport));
  const containers = caller.client(Containers);
  const load = { done: 0, isOver: false };
  const work = async (client: number): Promise<void> => {
    for (let number = 0; !load.isOver; number += 1) {
      const id = `c${client}-${number}`;
      await containers.create({ container: { ...container, id } }, caller.ns);
      await containers.update({ container: { ...container, id, labels: { a: "b" } } }, caller.ns);
      if (number % 2 === 0) {
        await containers.delete({ id }, caller.ns);
      }
      load.done += 1;
    }
  };
  const workers = Promise.all(Array.from({ length: 8 }, (_, client) => work(client)));
  for (let round = 0; round < 5; round += 1) {
    const wanted = load.done + 40;
    while (load.done < wanted) {
      await Promise.race([delay(5), workers]);
    }
    await process.kill();
    await process.restart();
  }
  load.isOver = true;
  await workers;
});
