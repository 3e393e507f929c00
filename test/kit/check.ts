import { createHash } from "node:crypto";
import { createReadStream, existsSync, globSync, readdirSync, readFileSync, statSync } from "node:fs";
import { basename, dirname } from "node:path";
import { pipeline } from "node:stream/promises";
import { setTimeout as delay } from "node:timers/promises";
import { createClient } from "@connectrpc/connect";
import { Leases } from "#gen/containerd/services/leases/v1/leases_pb.ts";
import { readMountInfo } from "#linux/mount-info.ts";
import { type Database, openReader } from "#sqlite/open.ts";
import { clientHeaders } from "#wire/headers.ts";
import { type ContainerName, listBundles, listCgroups } from "./container-traces.ts";
import type { Daemon } from "./daemon.ts";
import { listProcesses } from "./processes.ts";

/** What is looked at. */
export interface IntegrityOptions {
  /** A namespace that nobody else on the machine uses; cgroups of others are not looked at. */
  readonly namespace: string;
  /** How long what is being removed may still be there; 15 s unless given. */
  readonly settleMs?: number;
}

/**
 * Collects garbage in a daemon of ours that runs and nobody uses, and compares its records with its files and with the machine: every blob has
 * a file of its digest and length, every ingest and snapshot a directory, every task a shim, mounts and a cgroup, and
 * the other way round.
 *
 * @returns What does not fit, empty when all does.
 * @throws Whatever keeps it from looking.
 */
export async function findInconsistencies(
  daemon: Daemon,
  { namespace, settleMs = 15_000 }: IntegrityOptions,
): Promise<string[]> {
  await collectGarbage(daemon, namespace);
  const deadline = performance.now() + settleMs;
  for (;;) {
    const found = [...checkRecords(daemon), ...(await checkTasks(daemon, namespace))];
    if (found.length === 0 || performance.now() > deadline) {
      return [...found, ...(await checkDigests(daemon))];
    }
    await delay(pollMs);
  }
}

const pollMs = 50;

/** A lease that is deleted synchronously makes the daemon collect, and waits for it. */
async function collectGarbage({ transport }: Daemon, namespace: string): Promise<void> {
  const leases = createClient(Leases, transport);
  const headers = clientHeaders(namespace);
  await leases.create({ id: "integrity-check" }, { headers });
  await leases.delete({ id: "integrity-check", sync: true }, { headers });
}

function checkRecords(daemon: Daemon): string[] {
  const database = openReader(`${daemon.root}/io.containerd.metadata.v1.bolt/meta.db`);
  try {
    return [
      ...checkDatabase(database),
      ...checkBlobs(daemon, database),
      ...checkIngests(daemon, database),
      ...checkSnapshots(daemon, database),
    ];
  } finally {
    database.close();
  }
}

/** Nothing may wait for ever to be published or removed. */
function checkDatabase(database: Database): string[] {
  const damage = (database.pragma("integrity_check") as { readonly integrity_check: string }[])
    .map((row) => row.integrity_check)
    .filter((text) => text !== "ok");
  const broken = (database.pragma("foreign_key_check") as unknown[]).map((row) => `foreign key ${JSON.stringify(row)}`);
  const waiting = ["outbox", "released_blobs", "released_ingests", "released_snapshots"].flatMap((table) => {
    const count = database.prepare<[], number>(`SELECT count(*) FROM ${table}`).pluck().get() ?? 0;
    return count === 0 ? [] : [`${count} rows wait in ${table}`];
  });
  return [...damage, ...broken, ...waiting];
}

function checkBlobs({ root }: Daemon, database: Database): string[] {
  const rows = database
    .prepare<[], { readonly digest: string; readonly size: number }>("SELECT DISTINCT digest, size FROM blobs")
    .all();
  const recorded = rows.map(({ digest, size }) => `blob ${digest} of ${size} bytes`);
  const files = blobFiles(root).map((path) => `blob ${digestOf(path)} of ${statSync(path).size} bytes`);
  return compare(recorded, files);
}

function checkIngests({ root }: Daemon, database: Database): string[] {
  const recorded = database.prepare<[], string>("SELECT backend_ref FROM ingests").pluck().all();
  const files = globSync(`${root}/io.containerd.content.v1.content/ingest/*/ref`).map((path) =>
    readFileSync(path, "utf8"),
  );
  const directories = namesIn(`${root}/io.containerd.content.v1.content/ingest`);
  const without = directories.length === files.length ? [] : ["a directory of an ingest without its ref"];
  return [...compare(named("ingest", recorded), named("ingest", files)), ...without];
}

function checkSnapshots({ root }: Daemon, database: Database): string[] {
  const rows = database
    .prepare<[], { readonly snapshotter: string; readonly id: number }>("SELECT snapshotter, id FROM snapshots")
    .all();
  const recorded = rows.map(({ snapshotter, id }) => `snapshot ${snapshotter} ${id}`);
  const found = globSync(`${root}/io.containerd.snapshotter.v1.*/snapshots/*`).map((path) => {
    const snapshotter = basename(dirname(dirname(path))).replace("io.containerd.snapshotter.v1.", "");
    return `snapshot ${snapshotter} ${basename(path)}`;
  });
  return compare(recorded, found);
}

async function checkTasks(daemon: Daemon, namespace: string): Promise<string[]> {
  const { stdout, stderr, exitCode } = await daemon.ctr("-n", namespace, "tasks", "ls", "-q");
  if (exitCode !== 0) {
    throw new Error(`the tasks cannot be listed: ${stderr}`);
  }
  const tasks = stdout.split("\n").filter((id) => id !== "");
  const bundles = listBundles(daemon.state).map(({ namespace: space, id }: ContainerName) => `${space}/${id}`);
  const shims = listProcesses()
    .filter(({ command }) => command.includes("containerd-shim") && command.includes(` ${daemon.address}`))
    .map(({ command }) => /-id (\S+)/.exec(command)?.[1] ?? command);
  const cgroups = listCgroups(namespace).map((path) => basename(path));
  const mounts = (await readMountInfo())
    .map(({ mountPoint }) => mountPoint)
    .filter((path) => [daemon.root, daemon.state].some((directory) => path.startsWith(`${directory}/`)));
  const expectedMounts = bundles.map((bundle) => `${daemon.state}/io.containerd.runtime.v2.task/${bundle}/rootfs`);
  const works = globSync(`${daemon.root}/io.containerd.runtime.v2.task/*/*`).map((path) => basename(path));
  return [
    ...compare(
      named(
        "bundle",
        tasks.map((id) => `${namespace}/${id}`),
      ),
      named("bundle", bundles),
    ),
    ...compare(named("shim", tasks), named("shim", [...new Set(shims)])),
    ...named(
      "cgroup",
      [...new Set(cgroups)].filter((name) => name !== namespace && !tasks.includes(name)),
    ),
    ...named(
      "mount",
      mounts.filter((path) => !expectedMounts.includes(path)),
    ),
    ...compare(named("work directory", tasks), named("work directory", works)),
  ];
}

async function checkDigests({ root }: Daemon): Promise<string[]> {
  const wrong: string[] = [];
  for (const path of blobFiles(root)) {
    const hash = createHash("sha256");
    await pipeline(createReadStream(path), hash);
    if (`sha256:${hash.digest("hex")}` !== digestOf(path)) {
      wrong.push(`${path} has other bytes than its name says`);
    }
  }
  return wrong;
}

function blobFiles(root: string): string[] {
  return globSync(`${root}/io.containerd.content.v1.content/blobs/*/*`);
}

function digestOf(path: string): string {
  return `${basename(dirname(path))}:${basename(path)}`;
}

function named(what: string, names: readonly string[]): string[] {
  return names.map((name) => `${what} ${name}`);
}

function namesIn(directory: string): string[] {
  return existsSync(directory) ? readdirSync(directory) : [];
}

function compare(recorded: readonly string[], found: readonly string[]): string[] {
  return [
    ...recorded.filter((name) => !found.includes(name)).map((name) => `${name}: on record only`),
    ...found.filter((name) => !recorded.includes(name)).map((name) => `${name}: without a record`),
  ];
}
