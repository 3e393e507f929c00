import { Kind, type Reference, type Resource } from "#gen/flotilla/graph/v1/graph_pb.ts";

/** What something takes on disk, in bytes. */
export interface Takes {
  /** All that it reaches. */
  readonly totalBytes: number;
  /** What nothing else reaches; it is freed when this one goes. */
  readonly exclusiveBytes: number;
}

/** One thing that is kept for its own sake. */
export interface HolderReport extends Takes {
  readonly namespace: string;
  /** `image`, `container`, `lease`, … */
  readonly kind: string;
  readonly name: string;
}

/** One snapshot, without its parents. */
export interface SnapshotReport {
  readonly namespace: string;
  readonly snapshotter: string;
  readonly key: string;
  readonly state: "committed" | "active";
  readonly bytes: number;
  /** What keeps it, such as `image docker.io/library/busybox:latest`; nothing: the next collection frees it. */
  readonly keptBy: readonly string[];
}

/** Where the space is. */
export interface AreaReport {
  /** A directory below the root, or `other files`. */
  readonly area: string;
  readonly diskBytes: number;
  /** What the records account for. */
  readonly recordedBytes: number;
}

/** What the daemon's root takes, and why. */
export interface DuReport {
  readonly namespaces: readonly (Takes & { readonly namespace: string })[];
  readonly holders: readonly HolderReport[];
  readonly snapshots: readonly SnapshotReport[];
  readonly content: { readonly blobs: number; readonly bytes: number; readonly unkeptBytes: number };
  readonly areas: readonly AreaReport[];
  /** As du says. */
  readonly diskBytes: number;
}

/** Directories below the root with what they take. */
export interface DiskFacts {
  readonly directories: ReadonlyMap<string, number>;
  readonly totalBytes: number;
}

const kindNames: Readonly<Record<Kind, string>> = {
  [Kind.UNSPECIFIED]: "",
  [Kind.CONTENT]: "content",
  [Kind.SNAPSHOT]: "snapshot",
  [Kind.CONTAINER]: "container",
  [Kind.IMAGE]: "image",
  [Kind.LEASE]: "lease",
  [Kind.INGEST]: "ingest",
  [Kind.SANDBOX]: "sandbox",
  [Kind.MOUNT]: "mount",
};

/** The kinds that people know by name and that space is told of. */
const toldKinds = new Set<Kind>([Kind.IMAGE, Kind.CONTAINER, Kind.LEASE, Kind.SANDBOX]);

interface Node extends Resource {
  /** Nodes that it holds. */
  readonly holds: { readonly node: Node; readonly structural: boolean }[];
}

/**
 * Works out who keeps what, and what each takes alone and with others.
 *
 * A blob counts once however many namespaces have it, since its file is one; a snapshot belongs to its namespace.
 *
 * @param sizes - Of active snapshots, by namespace and key (`n/overlayfs/k`), which are not on record.
 */
export function accountFor(
  graph: { readonly resources: readonly Resource[]; readonly references: readonly Reference[] },
  sizes: ReadonlyMap<string, number>,
  disk: DiskFacts,
): DuReport {
  const nodes = connect(graph);
  const files = new Map<string, FileUse>();
  for (const node of nodes.values()) {
    noteFile(node, files, sizes);
  }
  for (const root of nodes.values()) {
    if (root.isRoot) {
      for (const reached of reach(root)) {
        files.get(fileOf(reached))?.holders.add(root);
      }
    }
  }
  const content = [...files.values()].filter(({ node }) => node.kind === Kind.CONTENT);
  return {
    namespaces: namespacesOf(files),
    holders: holdersOf(nodes, files),
    snapshots: snapshotsOf(files),
    content: {
      blobs: content.length,
      bytes: sum(content),
      unkeptBytes: sum(content.filter(({ holders }) => holders.size === 0)),
    },
    areas: areasOf(files, disk),
    diskBytes: disk.totalBytes,
  };
}

/** A file or directory that is kept. */
interface FileUse {
  readonly node: Node;
  readonly bytes: number;
  readonly namespaces: Set<string>;
  readonly holders: Set<Node>;
}

function connect({
  resources,
  references,
}: {
  readonly resources: readonly Resource[];
  readonly references: readonly Reference[];
}): Map<string, Node> {
  const nodes = new Map<string, Node>();
  for (const resource of resources) {
    nodes.set(nameOf(resource), { ...resource, holds: [] });
  }
  for (const { namespace, holderKind, holder, heldKind, held, isStructural } of references) {
    const from = nodes.get(nameOf({ namespace, kind: holderKind, key: holder }));
    const node = nodes.get(nameOf({ namespace, kind: heldKind, key: held }));
    if (from !== undefined && node !== undefined) {
      from.holds.push({ node, structural: isStructural });
    }
  }
  return nodes;
}

/** All that a root reaches, itself included; flat leases follow what resources consist of alone. */
function reach(root: Node): Set<Node> {
  const reached = new Set([root]);
  const pending = [root];
  for (let node = pending.pop(); node !== undefined; node = pending.pop()) {
    for (const held of node.holds) {
      if ((held.structural || !root.isFlat) && !reached.has(held.node)) {
        reached.add(held.node);
        pending.push(held.node);
      }
    }
  }
  return reached;
}

function noteFile(node: Node, files: Map<string, FileUse>, sizes: ReadonlyMap<string, number>): void {
  if (node.kind !== Kind.CONTENT && node.kind !== Kind.SNAPSHOT) {
    return;
  }
  const known = files.get(fileOf(node));
  if (known !== undefined) {
    known.namespaces.add(node.namespace);
    return;
  }
  const bytes = node.size === undefined ? (sizes.get(`${node.namespace}/${node.key}`) ?? 0) : Number(node.size);
  files.set(fileOf(node), { node, bytes, namespaces: new Set([node.namespace]), holders: new Set() });
}

function fileOf(node: Node): string {
  return node.kind === Kind.CONTENT ? node.key : nameOf(node);
}

function nameOf({
  namespace,
  kind,
  key,
}: {
  readonly namespace: string;
  readonly kind: Kind;
  readonly key: string;
}): string {
  return `${kind} ${namespace} ${key}`;
}

function namespacesOf(files: ReadonlyMap<string, FileUse>): DuReport["namespaces"] {
  const takes = new Map<string, { totalBytes: number; exclusiveBytes: number }>();
  for (const { namespaces, bytes } of files.values()) {
    for (const namespace of namespaces) {
      const own = takes.get(namespace) ?? { totalBytes: 0, exclusiveBytes: 0 };
      own.totalBytes += bytes;
      own.exclusiveBytes += namespaces.size === 1 ? bytes : 0;
      takes.set(namespace, own);
    }
  }
  return [...takes].map(([namespace, own]) => ({ namespace, ...own }));
}

function holdersOf(nodes: ReadonlyMap<string, Node>, files: ReadonlyMap<string, FileUse>): HolderReport[] {
  const takes = new Map<Node, { totalBytes: number; exclusiveBytes: number }>();
  for (const node of nodes.values()) {
    if (node.isRoot && toldKinds.has(node.kind)) {
      takes.set(node, { totalBytes: 0, exclusiveBytes: 0 });
    }
  }
  for (const { holders, bytes } of files.values()) {
    for (const holder of holders) {
      const own = takes.get(holder);
      if (own !== undefined) {
        own.totalBytes += bytes;
        own.exclusiveBytes += holders.size === 1 ? bytes : 0;
      }
    }
  }
  return [...takes].map(([{ namespace, kind, key }, own]) => ({
    namespace,
    kind: kindNames[kind] ?? "",
    name: key,
    ...own,
  }));
}

function snapshotsOf(files: ReadonlyMap<string, FileUse>): SnapshotReport[] {
  return [...files.values()]
    .filter(({ node }) => node.kind === Kind.SNAPSHOT)
    .map(({ node, bytes, holders }) => {
      const slash = node.key.indexOf("/");
      return {
        namespace: node.namespace,
        snapshotter: node.key.slice(0, slash),
        key: node.key.slice(slash + 1),
        state: node.isCommitted ? "committed" : "active",
        bytes,
        keptBy: [...holders].map((holder) =>
          holder === node ? "label containerd.io/gc.root" : `${kindNames[holder.kind]} ${holder.key}`,
        ),
      };
    });
}

function areasOf(files: ReadonlyMap<string, FileUse>, disk: DiskFacts): AreaReport[] {
  const recorded = new Map<string, number>();
  for (const { node, bytes } of files.values()) {
    const area =
      node.kind === Kind.CONTENT
        ? "io.containerd.content.v1.content"
        : `io.containerd.snapshotter.v1.${node.key.slice(0, node.key.indexOf("/"))}`;
    recorded.set(area, (recorded.get(area) ?? 0) + bytes);
  }
  const areas = [...disk.directories].map(([area, diskBytes]) => ({
    area,
    diskBytes,
    recordedBytes: recorded.get(area) ?? 0,
  }));
  const listed = areas.reduce((total, { diskBytes }) => total + diskBytes, 0);
  return [...areas, { area: "other files", diskBytes: disk.totalBytes - listed, recordedBytes: 0 }];
}

function sum(files: readonly FileUse[]): number {
  return files.reduce((total, { bytes }) => total + bytes, 0);
}
