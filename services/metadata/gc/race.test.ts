import assert from "node:assert/strict";
import test from "node:test";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { digestOf } from "#containerd/digest.ts";
import type { Stores } from "../stores.ts";
import { collectGarbage } from "./collect.ts";
import { TestFiles, TestStores, turns } from "./test-stores.ts";

const namespace = "n";

/** A source of numbers that look random and are the same in every run of a seed. @source Mulberry32 by Tommy Ettinger */
function randomNumbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

async function collect(stores: Stores, files: TestFiles): Promise<void> {
  const { records, releases } = stores;
  const onFilesLeft = (error: unknown): never => assert.fail(String(error));
  await collectGarbage({ records, releases, stores, owners: files, onFilesLeft });
}

/** Ignores what is refused, since another client may have been faster. */
async function attempt<T>(call: Promise<T>): Promise<T | undefined> {
  return call.catch((error: unknown) => {
    assert.ok(isFailure(error), String(error));
    return undefined;
  });
}

/** Asserts that every blob of a namespace, and every one that an open ingest stands for, has its file. */
function checkFiles(stores: Stores, files: TestFiles): void {
  const named = stores.records.database
    .prepare<[], string>("SELECT digest FROM blobs UNION SELECT expected FROM ingests WHERE expected != ''")
    .pluck()
    .all();
  for (const digest of named) {
    assert.ok(files.digests.has(digest), `${digest} has a record and no file`);
  }
}

/** Pulls a blob as a client and the content process do. */
async function pull(
  stores: Stores,
  files: TestFiles,
  { digest, ref, pause }: { readonly digest: string; readonly ref: string; readonly pause: () => Promise<void> },
): Promise<void> {
  const { ingests } = stores;
  const opened = await attempt(ingests.open({ namespace, lease: "", ref, expected: digest, total: 0n }));
  if (opened === undefined) {
    return;
  }
  checkFiles(stores, files);
  await pause();
  await files.whileLocked(digest, async () => {
    if (opened.sharedSize === undefined) {
      files.digests.add(digest);
      await pause();
    } else if (!files.digests.has(digest)) {
      return;
    }
    await attempt(ingests.commit({ namespace, lease: "", ref, digest, size: 1n, labels: {} }));
  });
  checkFiles(stores, files);
}

test("no blob loses its file while clients pull, delete and the collector runs", { timeout: 120_000 }, async () => {
  for (let seed = 1; seed <= 40; seed += 1) {
    using opened = new TestStores();
    const { stores } = opened;
    const files = new TestFiles(stores);
    const random = randomNumbers(seed);
    const pause = (): Promise<void> => turns(random(4));
    const digests = ["a", "b"].map((text) => digestOf(text));
    const anyDigest = (): string => digests[random(digests.length)] ?? "";
    const runClient = async (client: number): Promise<void> => {
      for (let round = 0; round < 12; round += 1) {
        await pause();
        switch (random(4)) {
          case 0:
            await attempt(stores.blobs.remove(namespace, anyDigest(), ""));
            break;
          case 1:
            await attempt(stores.ingests.abort(namespace, `${client}`, ""));
            break;
          default:
            await pull(stores, files, { digest: anyDigest(), ref: `${client}`, pause });
        }
      }
    };
    const ended = new AbortController();
    const runCollector = async (): Promise<void> => {
      while (!ended.signal.aborted) {
        await collect(stores, files);
        checkFiles(stores, files);
        await pause();
      }
    };
    const runClients = async (): Promise<void> => {
      await Promise.all([0, 1, 2, 3].map(runClient)).finally(() => ended.abort());
    };
    await Promise.all([runCollector(), runClients()]).catch((error: unknown) =>
      assert.fail(`seed ${seed}: ${String(error)}`),
    );
    opened.nowMs += 25 * 3_600_000;
    await collect(stores, files);
    assert.deepEqual([...files.digests], [], `seed ${seed}: files are left`);
  }
});

test("who leases a blob while it is collected has all that it refers to", { timeout: 120_000 }, async () => {
  let leasedSome = false;
  let collectedSome = false;
  for (let seed = 1; seed <= 40; seed += 1) {
    using opened = new TestStores();
    const { stores } = opened;
    const files = new TestFiles(stores);
    const random = randomNumbers(seed);
    const chain = Array.from({ length: 250 }, (_, number) => digestOf(`link ${number}`));
    const record = async (digest: string, next: string | undefined): Promise<void> => {
      files.digests.add(digest);
      const labels: Record<string, string> = next === undefined ? {} : { "containerd.io/gc.ref.content": next };
      await stores.ingests.commit({ namespace, lease: "", ref: digest, digest, size: 1n, labels });
    };
    await Promise.all(chain.map((digest, index) => record(digest, chain[index + 1])));
    await stores.leases.create(namespace, "l", {});
    const collected = collect(stores, files);
    await turns(random(16));
    const wanted = random(chain.length);
    const lease = stores.ingests.open({ namespace, lease: "l", ref: "r", expected: chain[wanted] ?? "", total: 0n });
    const isLeased = await lease.then(
      () => false,
      (error: unknown) => isFailure(error, ErrorKind.AlreadyExists),
    );
    await collected;
    const left = new Set(stores.blobs.resolve(namespace, chain).map(({ digest }) => digest));
    if (isLeased) {
      leasedSome = true;
      for (const digest of chain.slice(wanted)) {
        assert.ok(left.has(digest) && files.digests.has(digest), `seed ${seed}: a link is missing`);
      }
    } else {
      collectedSome = true;
    }
  }
  assert.ok(leasedSome && collectedSome, "the race went both ways");
});
