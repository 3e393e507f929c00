import { createClient } from "@connectrpc/connect";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { selectDaemonFlags } from "#config/flags.ts";
import { loadConfig } from "#config/load.ts";
import { privateSocketOf } from "#fleet/process-name.ts";
import { Snapshots } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import { Kind, type Reference, References, type Resource } from "#gen/flotilla/graph/v1/graph_pb.ts";
import { connectRpc } from "#wire/client.ts";
import { clientHeaders } from "#wire/headers.ts";
import { alignColumns } from "./columns.ts";
import type { Command, CommandInput } from "./command.ts";
import { measureDisk } from "./disk-usage.ts";
import { accountFor, type DuReport } from "./du-report.ts";
import { print } from "./output.ts";

/** Shows what takes the space of the daemon's root, and what keeps it. For whoever runs the daemon: the sockets are private. */
export const duCommand: Command = {
  names: ["du"],
  usage: "Show what images, namespaces and snapshots take on disk, and what keeps them",
  flags: [{ names: ["json"], isSwitch: true, usage: "Print JSON, in bytes" }],
  run: show,
};

/** How long one question may take; measuring an active snapshot goes through all its files. */
const callMsMax = 600_000;

async function show({ globals, switches }: CommandInput): Promise<void> {
  const { config } = await loadConfig(selectDaemonFlags(globals), []);
  const graph = await readGraph(privateSocketOf(config.state, "metadata"));
  const sizes = await measureActive(privateSocketOf(config.state, "snapshots"), graph.resources);
  const report = accountFor(graph, sizes, measureDisk(config.root));
  await print(switches.has("json") ? JSON.stringify(report, undefined, 2) : formatDu(report));
}

interface Graph {
  readonly resources: Resource[];
  readonly references: Reference[];
}

async function readGraph(socketPath: string): Promise<Graph> {
  const connection = connectRpc(socketPath);
  const graph: Graph = { resources: [], references: [] };
  try {
    for await (const part of createClient(References, connection.transport).list({}, { timeoutMs: callMsMax })) {
      graph.resources.push(...part.resources);
      graph.references.push(...part.references);
    }
  } finally {
    connection.close();
  }
  return graph;
}

/** Sizes that are on no record. A snapshot that goes meanwhile takes nothing. */
async function measureActive(socketPath: string, resources: readonly Resource[]): Promise<Map<string, number>> {
  const sizes = new Map<string, number>();
  const connection = connectRpc(socketPath);
  try {
    const snapshots = createClient(Snapshots, connection.transport);
    for (const { namespace, key } of resources.filter(
      ({ kind, size }) => kind === Kind.SNAPSHOT && size === undefined,
    )) {
      const slash = key.indexOf("/");
      const request = { snapshotter: key.slice(0, slash), key: key.slice(slash + 1) };
      try {
        const options = { headers: clientHeaders(namespace), timeoutMs: callMsMax };
        sizes.set(`${namespace}/${key}`, Number((await snapshots.usage(request, options)).size));
      } catch (error) {
        if (!isFailure(error, ErrorKind.NotFound, ErrorKind.InvalidArgument)) {
          throw error;
        }
      }
    }
  } finally {
    connection.close();
  }
  return sizes;
}

/** Lays a report out for people. */
export function formatDu({ namespaces, holders, snapshots, content, areas, diskBytes }: DuReport): string {
  return [
    ...alignColumns([
      ["DIRECTORY", "ON DISK", "ON RECORD"],
      ...areas.map(({ area, diskBytes: bytes, recordedBytes }) => [area, size(bytes), size(recordedBytes)]),
      ["total", size(diskBytes), ""],
    ]),
    "",
    ...alignColumns([
      ["NAMESPACE", "TOTAL", "ALONE"],
      ...namespaces.map((one) => [one.namespace, size(one.totalBytes), size(one.exclusiveBytes)]),
    ]),
    "",
    ...alignColumns([
      ["NAMESPACE", "KEEPER", "TOTAL", "ALONE", "NAME"],
      ...holders
        .toSorted((left, right) => right.totalBytes - left.totalBytes)
        .map((one) => [one.namespace, one.kind, size(one.totalBytes), size(one.exclusiveBytes), one.name]),
    ]),
    "",
    ...alignColumns([
      ["NAMESPACE", "SNAPSHOTTER", "STATE", "SIZE", "KEY", "KEPT BY"],
      ...snapshots
        .toSorted((left, right) => right.bytes - left.bytes)
        .map(({ keptBy, ...one }) => [
          one.namespace,
          one.snapshotter,
          one.state,
          size(one.bytes),
          one.key,
          keptBy.length === 0 ? "nothing: freed by the next collection" : keptBy.join(", "),
        ]),
    ]),
    "",
    `blobs: ${content.blobs}, ${size(content.bytes)}, of which ${size(content.unkeptBytes)} are freed by the next collection`,
  ].join("\n");
}

function size(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  for (; Math.abs(value) >= 1024 && unit < units.length - 1; unit += 1) {
    value /= 1024;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}
