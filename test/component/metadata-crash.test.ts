import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import test from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { ErrorKind } from "#base/errors.ts";
import { Containers } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import { Namespaces } from "#gen/containerd/services/namespaces/v1/namespaces_pb.ts";
import { Snapshots } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import { Member } from "#gen/flotilla/fleet/v1/fleet_pb.ts";
import { Health, HealthCheckResponse_ServingStatus as ServingStatus } from "#gen/grpc/health/v1/health_pb.ts";
import { openDatabase } from "#sqlite/open.ts";
import { notFound } from "./metadata-calls.ts";
import { inNamespace, MetadataProcess } from "./metadata-process.ts";

const ns = inNamespace("crash");
const bounded = { timeout: 120_000 };
const runtime = { name: "io.containerd.runc.v2" };
const spec = { typeUrl: "spec", value: Buffer.from("{}") };

test("what was answered is there after kill -9, and its events arrive", bounded, async (context) => {
  const process = await MetadataProcess.start(context);
  const answered: string[] = [];
  for (let round = 0; round < 5; round += 1) {
    const killed = new AbortController();
    const containers = process.client(Containers);
    const clients = Array.from({ length: 8 }, async (_, client) => {
      for (let number = 0; !killed.signal.aborted; number += 1) {
        const id = `c${round}-${client}-${number}`;
        await containers.create({ container: { id, runtime, spec } }, ns).then(
          () => answered.push(id),
          () => undefined,
        );
      }
    });
    const before = answered.length;
    while (answered.length < before + 20 * (round + 1)) {
      await delay(5);
    }
    killed.abort();
    await process.kill();
    await process.restart();
    await Promise.all(clients);
  }
  const { containers } = await process.client(Containers).list({}, ns);
  const stored = new Set(containers.map(({ id }) => id));
  assert.deepEqual(
    answered.filter((id) => !stored.has(id)),
    [],
  );
  const { neighbours } = process;
  const ids = (): Set<string> => new Set(neighbours.events.map(({ messageId }) => messageId));
  await neighbours.until(() => ids().size === stored.size);
});

test("events wait for the events process, over a crash, in order", bounded, async (context) => {
  const process = await MetadataProcess.start(context);
  const { neighbours } = process;
  neighbours.eventsRefused = true;
  for (const name of ["a", "b", "c"]) {
    await process.client(Namespaces).create({ namespace: { name } });
  }
  await process.kill();
  await process.restart();
  await process.client(Namespaces).create({ namespace: { name: "d" } });
  assert.equal(neighbours.events.length, 0);
  neighbours.eventsRefused = false;
  await neighbours.until(() => neighbours.events.length === 4);
  assert.deepEqual(
    neighbours.events.map(({ envelope }) => envelope?.namespace),
    ["a", "b", "c", "d"],
  );
});

test("the process stops when it is asked to, while its neighbours are away", bounded, async (context) => {
  const process = await MetadataProcess.start(context);
  await process.neighbours.close();
  await process.client(Namespaces).create({ namespace: { name: "a" } });
  assert.equal(await process.stop(), 0);
});

test("snapshotters stay loaded over a restart", bounded, async (context) => {
  const process = await MetadataProcess.start(context);
  await process.loadSnapshotters("native");
  assert.equal(await process.stop(), 0);
  await process.restart();
  await notFound(
    "snapshot k does not exist: not found",
    process.client(Snapshots).stat({ snapshotter: "native", key: "k" }, ns),
  );
});

async function initErrors(process: MetadataProcess): Promise<Record<string, string>> {
  const { plugins } = await process.client(Member).describe({});
  return Object.fromEntries(plugins.map(({ type, id, initErr }) => [`${type}.${id}`, initErr?.message ?? ""]));
}

test("a database of containerd's own fails the plugins and says why", bounded, async (context) => {
  const process = await MetadataProcess.start(context, {
    before: (path) => {
      const bolt = Buffer.alloc(32_768);
      bolt.writeUInt32LE(0xed0cdaed, 16);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, bolt);
    },
  });
  const errors = await initErrors(process);
  assert.match(errors["io.containerd.metadata.v1.bolt"] ?? "", /meta\.db is a bolt database that containerd wrote/);
  assert.equal(
    errors["io.containerd.grpc.v1.containers"],
    "no plugins registered for io.containerd.metadata.v1: plugin: not found",
  );
});

test("a database of a newer release is left alone", bounded, async (context) => {
  const process = await MetadataProcess.start(context, {
    before: (path) => {
      const database = openDatabase(path);
      database.pragma("user_version = 1000");
      database.close();
    },
  });
  const errors = await initErrors(process);
  assert.match(errors["io.containerd.metadata.v1.bolt"] ?? "", /has schema 1000, which a newer release wrote/);
  const database = openDatabase(process.databasePath);
  context.after(() => database.close());
  assert.equal(database.pragma("user_version", { simple: true }), 1000);
});

test("plugins show what containerd's show", bounded, async (context) => {
  const process = await MetadataProcess.start(context);
  const { plugins } = await process.client(Member).describe({});
  const exported = Object.fromEntries(plugins.map(({ type, id, exports }) => [`${type}.${id}`, exports]));
  assert.deepEqual(Object.keys(exported), [
    "io.containerd.metadata.v1.bolt",
    "io.containerd.gc.v1.scheduler",
    "io.containerd.lease.v1.manager",
    "io.containerd.sandbox.store.v1.local",
    "io.containerd.service.v1.containers-service",
    "io.containerd.service.v1.images-service",
    "io.containerd.service.v1.namespaces-service",
    "io.containerd.grpc.v1.containers",
    "io.containerd.grpc.v1.images",
    "io.containerd.grpc.v1.namespaces",
    "io.containerd.grpc.v1.leases",
    "io.containerd.grpc.v1.sandboxes",
  ]);
  assert.deepEqual(exported["io.containerd.metadata.v1.bolt"], { policy: "shared", path: process.databasePath });
  assert.deepEqual(exported["io.containerd.gc.v1.scheduler"], {
    PauseThreshold: "0.02",
    DeletionThreshold: "0",
    MutationThreshold: "100",
    ScheduleDelay: "0s",
  });
});

test(
  "with too many events waiting changes are refused and the process is not well, until some are taken",
  bounded,
  async (context) => {
    const process = await MetadataProcess.start(context);
    const namespaces = process.client(Namespaces);
    process.neighbours.eventsRefused = true;
    await namespaces.create({ namespace: { name: "first" } });
    await process.kill();
    const database = openDatabase(process.databasePath);
    database.exec(`
    WITH RECURSIVE counted (number) AS (VALUES (1) UNION ALL SELECT number + 1 FROM counted WHERE number < 100000)
    INSERT INTO outbox (envelope) SELECT envelope FROM counted, (SELECT envelope FROM outbox LIMIT 1)
  `);
    database.close();
    await process.restart();
    const health = async (): Promise<ServingStatus> => (await process.client(Health).check({})).status;
    await assert.rejects(process.client(Namespaces).create({ namespace: { name: "second" } }), {
      kind: ErrorKind.Unavailable,
      message: /^100000 events wait to be published, so nothing can be changed until the events process takes them: /,
    });
    assert.equal(await health(), ServingStatus.NOT_SERVING);
    assert.equal((await process.client(Namespaces).list({})).namespaces.length, 1, "what changes nothing is answered");

    process.neighbours.eventsRefused = false;
    await process.neighbours.until(() => process.neighbours.events.length >= 1_000);
    while ((await health()) !== ServingStatus.SERVING) {
      await delay(20);
    }
    await process.client(Namespaces).create({ namespace: { name: "second" } });
  },
);
