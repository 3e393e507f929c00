import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { createClient } from "@connectrpc/connect";
import { ErrorKind, errorMessage, FlotillaError } from "#base/errors.ts";
import { hostPlatform } from "#config/host-platform.ts";
import { Content } from "#gen/containerd/services/content/v1/content_pb.ts";
import { Images } from "#gen/containerd/services/images/v1/images_pb.ts";
import { clientHeaders } from "#wire/headers.ts";
import { findInconsistencies } from "../kit/check.ts";
import { type Daemon, startFlotilla } from "../kit/daemon.ts";
import { dawdle, HostileRegistry, takeSlowly } from "../kit/hostile-registry.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { uniqueNamespace } from "../kit/namespace.ts";
import { until } from "../kit/processes.ts";
import { packTar } from "../kit/tar.ts";
import { TransferClient } from "../kit/transfer-client.ts";

/**
 * What a client of Transfer sees when a process behind it dies: an error or a success within bounds, and its image when it
 * asks again, with what was there before. When transfer itself dies it sees a success, where no bytes of its own are lost.
 */

let daemon: Daemon;
let registry: HostileRegistry;
let leaks: LeakSnapshot;

const layerBytes = 8 * 1024 * 1024;
/** Longer than any process takes to come back, on a busy machine as well; shorter than a silent registry is waited for. */
const endMsMax = 45_000;
const startMsMax = 30_000;
const unpacks = [{ platform: hostPlatform() }];
const anyName = [{ name: "p", isPrefix: true, allowOverwrite: true }];
const victims = ["content", "snapshots", "metadata"] as const;

before(async () => {
  leaks = await snapshotLeaks();
  registry = await HostileRegistry.start();
  daemon = await startFlotilla();
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  await assertNoLeaks(leaks);
});

interface Offered {
  readonly reference: string;
  readonly layer: string;
}

/** An image of two layers that no other test has. */
function offerImage(name: string): Offered {
  const layers = [0, 1].map((index) => {
    const content = randomBytes(layerBytes);
    const tar = packTar([{ path: `random-${index}`, type: "file", mode: 0o644, content }]);
    return registry.add(tar, "application/vnd.oci.image.layer.v1.tar");
  });
  const rootfs = { type: "layers", diff_ids: layers.map(({ digest }) => digest) };
  const { os, architecture } = hostPlatform();
  const config = registry.add(
    JSON.stringify({ os, architecture, rootfs, config: {} }),
    "application/vnd.oci.image.config.v1+json",
  );
  const mediaType = "application/vnd.oci.image.manifest.v1+json";
  const manifest = JSON.stringify({ schemaVersion: 2, mediaType, config, layers });
  registry.tags.set(name, registry.add(manifest, mediaType).digest);
  return { reference: `${registry.host}/crash/image:${name}`, layer: layers[1]?.digest ?? "" };
}

/** Waits for an end, whichever it is, and no longer than it may take. @returns what went wrong. */
async function endOf(call: Promise<unknown>): Promise<FlotillaError | undefined> {
  const timer = new AbortController();
  const late = delay(endMsMax, "late" as const, { signal: timer.signal });
  late.catch(() => undefined);
  const end = await Promise.race([
    call.then(
      () => undefined,
      (error: unknown) => error,
    ),
    late,
  ]);
  timer.abort();
  assert.notEqual(end, "late", "neither an error nor a success");
  if (end === undefined) {
    return undefined;
  }
  assert.ok(end instanceof FlotillaError, `an error without a code: ${errorMessage(end)}`);
  return end;
}

/** @param what - Part of the refs of the ingests that count. */
async function writtenBytes(namespace: string, what = ""): Promise<number> {
  const { statuses } = await createClient(Content, daemon.transport).listStatuses(
    {},
    { headers: clientHeaders(namespace) },
  );
  return statuses.filter(({ ref }) => ref.includes(what)).reduce((sum, { offset }) => sum + Number(offset), 0);
}

async function assertWhole(client: TransferClient, namespace: string, name: string): Promise<void> {
  assert.ok((await client.export([name])).length > 2 * layerBytes);
  assert.deepEqual(await findInconsistencies(daemon, { namespace }), []);
}

for (const victim of victims) {
  test(`kill -9 of ${victim} amid a pull: an end within bounds, and the image at the next try`, async () => {
    const namespace = uniqueNamespace();
    const client = new TransferClient(daemon.transport, namespace);
    const { reference, layer } = offerImage(`pull-${victim}`);
    registry.misbehave(new RegExp(`GET .*${layer}`), dawdle(128 * 1024, 20), 1);
    const ending = endOf(client.pull(reference, { unpacks }));
    await until(
      async () => (await writtenBytes(namespace, layer)) > 0,
      () => "no byte arrives",
      startMsMax,
    );
    await daemon.kill9(victim);
    await ending;
    assert.equal(await endOf(client.pull(reference, { unpacks })), undefined);
    const asked = registry.requests.filter((line) => line.startsWith("GET") && line.includes(layer));
    asked.slice(1).forEach((line) => assert.match(line, / bytes=[1-9]\d*-$/, "fetched from the beginning again"));
    await assertWhole(client, namespace, reference);
  });

  test(`kill -9 of ${victim} amid a push: an end within bounds, and the image at the next try`, async () => {
    const namespace = uniqueNamespace();
    const client = new TransferClient(daemon.transport, namespace);
    const { reference, layer } = offerImage(`push-${victim}`);
    await client.pull(reference);
    const bytes = registry.stored.get(layer)?.bytes;
    registry.stored.delete(layer);
    registry.misbehave(/PUT .*uploads/, takeSlowly(128 * 1024, 20), 1);
    const target = `${registry.host}/crash/pushed:${victim}`;
    const uploads = (): number => registry.count(/PUT .*uploads/);
    const uploadsBefore = uploads();
    const ending = endOf(client.push(reference, target));
    await until(
      () => uploads() > uploadsBefore,
      () => "nothing is pushed",
      startMsMax,
    );
    await daemon.kill9(victim);
    await ending;
    assert.equal(await endOf(client.push(reference, target)), undefined);
    assert.ok(bytes !== undefined && registry.stored.get(layer)?.bytes.equals(bytes));
    await assertWhole(client, namespace, reference);
  });

  test(`kill -9 of ${victim} amid an import: an end within bounds, and the image at the next try`, async () => {
    const namespace = uniqueNamespace();
    const client = new TransferClient(daemon.transport, namespace);
    const other = uniqueNamespace();
    const { reference } = offerImage(`import-${victim}`);
    const source = new TransferClient(daemon.transport, other);
    await source.pull(reference);
    const archive = await source.export([reference]);
    const ending = endOf(client.import(inPieces(archive, 256 * 1024, 20), { unpacks, extraReferences: anyName }));
    await until(
      async () => (await writtenBytes(namespace)) > 0,
      () => "nothing is imported",
      startMsMax,
    );
    await daemon.kill9(victim);
    await ending;
    assert.equal(await endOf(client.import(archive, { unpacks, extraReferences: anyName })), undefined);
    await assertWhole(client, namespace, reference);
  });
}

test("kill -9 of transfer amid a pull: the client notices nothing, and the pull goes on where it was", async () => {
  const namespace = uniqueNamespace();
  const client = new TransferClient(daemon.transport, namespace);
  const { reference, layer } = offerImage("pull-transfer");
  registry.misbehave(new RegExp(`GET .*${layer}`), dawdle(128 * 1024, 20), 1);
  const pulled = client.pull(reference, { unpacks });
  await until(
    async () => (await writtenBytes(namespace, layer)) > 0,
    () => "no byte arrives",
    startMsMax,
  );
  await daemon.kill9("transfer");
  assert.equal(await endOf(pulled), undefined);
  const asked = registry.requests.filter((line) => line.startsWith("GET") && line.includes(layer));
  assert.ok(asked.length > 1);
  asked.slice(1).forEach((line) => assert.match(line, / bytes=[1-9]\d*-$/, "fetched from the beginning again"));
  await assertWhole(client, namespace, reference);
});

test("kill -9 of transfer amid a push: the client notices nothing", async () => {
  const namespace = uniqueNamespace();
  const client = new TransferClient(daemon.transport, namespace);
  const { reference, layer } = offerImage("push-transfer");
  await client.pull(reference);
  const bytes = registry.stored.get(layer)?.bytes;
  registry.stored.delete(layer);
  registry.misbehave(/PUT .*uploads/, takeSlowly(128 * 1024, 20), 1);
  const target = `${registry.host}/crash/pushed:transfer`;
  const uploadsBefore = registry.count(/PUT .*uploads/);
  const pushed = client.push(reference, target);
  await until(
    () => registry.count(/PUT .*uploads/) > uploadsBefore,
    () => "nothing is pushed",
    startMsMax,
  );
  await daemon.kill9("transfer");
  assert.equal(await endOf(pushed), undefined);
  assert.ok(bytes !== undefined && registry.stored.get(layer)?.bytes.equals(bytes));
});

test("kill -9 of transfer amid an import: the client is told, and nothing is made", async () => {
  const namespace = uniqueNamespace();
  const client = new TransferClient(daemon.transport, namespace);
  const source = new TransferClient(daemon.transport, uniqueNamespace());
  const { reference } = offerImage("import-transfer");
  await source.pull(reference);
  const archive = await source.export([reference]);
  const ending = endOf(client.import(inPieces(archive, 256 * 1024, 20), { unpacks, extraReferences: anyName }));
  await until(
    async () => (await writtenBytes(namespace)) > 0,
    () => "nothing is imported",
    startMsMax,
  );
  await daemon.kill9("transfer");
  const end = await ending;
  assert.equal(end?.kind, ErrorKind.Unavailable);
  const { images } = await createClient(Images, daemon.transport).list({}, { headers: clientHeaders(namespace) });
  assert.deepEqual(images, []);
  assert.equal(await endOf(client.import(archive, { unpacks, extraReferences: anyName })), undefined);
});

async function* inPieces(bytes: Buffer, pieceBytes: number, pauseMs: number): AsyncGenerator<Uint8Array> {
  for (let start = 0; start < bytes.length; start += pieceBytes) {
    yield bytes.subarray(start, start + pieceBytes);
    await delay(pauseMs);
  }
}
