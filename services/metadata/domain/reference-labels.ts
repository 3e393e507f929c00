import { findRfc3339Ns, nsPerMs } from "#base/times.ts";
import type { Labels } from "#containerd/labels.ts";
import { ResourceKind, snapshotResourceKey } from "./resource.ts";

/** How a reference was made, which decides when it is followed and which way. Stored; the numbers never change. */
export const Relation = {
  /** Part of what the resource is: the target of an image, the parent of a snapshot. Flat leases follow these alone. */
  Structural: 0,
  /** A label of the source holds the target alive. */
  Label: 1,
  /** A label of the source says that it lives while the target does; followed backwards. */
  Back: 2,
  /** Like a label while a condition on the target holds. */
  Conditional: 3,
} as const;

export type Relation = (typeof Relation)[keyof typeof Relation];

/** One reference of a resource. Its target is in the same namespace and need not exist. */
export interface Reference {
  readonly relation: Relation;
  readonly kind: ResourceKind;
  readonly key: string;
  /** Of a conditional one, such as `<24h`: how long before now the target must have been used. */
  readonly condition?: string;
}

/** What the collector has to know of a resource. */
export interface ReferenceFacts {
  /** Kept for its own sake, until it expires. */
  readonly root: boolean;
  /** Of a lease: holds its resources without what their labels refer to. */
  readonly flat: boolean;
  /** Time in ms since the epoch after which it is no root any more. */
  readonly expiresMs: number | undefined;
  /** Times in ms since the epoch at which it was used, for conditional references to it. */
  readonly usedMs: readonly number[];
  readonly references: readonly Reference[];
}

const prefix = "containerd.io/gc.";

/** On leases and images. @source containerd v2.3.4 core/metadata/gc.go `labelGCExpire` */
export const expireLabel = `${prefix}expire`;
const flatLabel = `${prefix}flat`;
const rootPrefix = `${prefix}root`;
const usedPrefix = `${prefix}cond.value-usedat`;
const conditionalSnapshotPrefix = `${prefix}cond.snapshot`;

const namedKinds = [
  ["container", ResourceKind.Container],
  ["content", ResourceKind.Content],
  ["image", ResourceKind.Image],
  ["mount", ResourceKind.Mount],
] as const;

/** Kinds that labels name in one direction only. */
const onlyBack: ResourceKind = ResourceKind.Container;
const onlyForward: ResourceKind = ResourceKind.Mount;

const referrers = new Set<ResourceKind>([
  ResourceKind.Content,
  ResourceKind.Snapshot,
  ResourceKind.Container,
  ResourceKind.Image,
  ResourceKind.Sandbox,
]);
const backReferrers = new Set<ResourceKind>([
  ResourceKind.Content,
  ResourceKind.Snapshot,
  ResourceKind.Container,
  ResourceKind.Image,
  ResourceKind.Mount,
]);
const expiring = new Set<ResourceKind>([ResourceKind.Lease, ResourceKind.Image]);
const alwaysRoots = new Set<ResourceKind>([
  ResourceKind.Container,
  ResourceKind.Image,
  ResourceKind.Lease,
  ResourceKind.Sandbox,
]);
const rootable = new Set<ResourceKind>([ResourceKind.Content, ResourceKind.Snapshot]);
const conditional = new Set<ResourceKind>([ResourceKind.Content, ResourceKind.Image]);

/**
 * Reads what the labels of a resource tell the collector. Labels that mean nothing on a resource of its kind, and values that
 * make no sense, count as absent.
 *
 * @param structural - What the resource refers to by itself, which comes before the labels.
 * @source containerd v2.3.4 core/metadata/gc.go `startGCContext`, `scanRoots`, `references`
 */
export function readReferenceFacts(
  kind: ResourceKind,
  labels: Labels,
  structural: readonly Omit<Reference, "relation">[] = [],
): ReferenceFacts {
  const references: Reference[] = structural.map((reference) => ({ relation: Relation.Structural, ...reference }));
  const usedMs: number[] = [];
  let root = alwaysRoots.has(kind);
  for (const [label, value] of Object.entries(labels)) {
    if (!label.startsWith(prefix)) {
      continue;
    }
    references.push(...readReferences(kind, label, value));
    root ||= rootable.has(kind) && label.startsWith(rootPrefix);
    const used = kind === ResourceKind.Snapshot && label.startsWith(usedPrefix) ? findTimeMs(value) : undefined;
    if (used !== undefined) {
      usedMs.push(used);
    }
  }
  const expires = expiring.has(kind) ? labels[expireLabel] : undefined;
  return {
    root,
    flat: kind === ResourceKind.Lease && labels[flatLabel] !== undefined,
    expiresMs: expires === undefined ? undefined : findTimeMs(expires),
    usedMs,
    references,
  };
}

function readReferences(kind: ResourceKind, label: string, value: string): Reference[] {
  if (label.startsWith(`${prefix}ref.`) && referrers.has(kind)) {
    return findTarget(label.slice(`${prefix}ref.`.length), value, Relation.Label);
  }
  if (label.startsWith(`${prefix}bref.`) && backReferrers.has(kind)) {
    return findTarget(label.slice(`${prefix}bref.`.length), value, Relation.Back);
  }
  if (label.startsWith(conditionalSnapshotPrefix) && conditional.has(kind)) {
    return readConditionalSnapshots(label.slice(conditionalSnapshotPrefix.length), value);
  }
  return [];
}

/** Reads the rest of a label, `content.l.0` or `snapshot.overlayfs/name`; what names the reference is left out. */
function findTarget(rest: string, value: string, relation: typeof Relation.Label | typeof Relation.Back): Reference[] {
  if (rest.startsWith("snapshot.")) {
    const snapshotter = beforeSlash(rest.slice("snapshot.".length));
    return [{ relation, kind: ResourceKind.Snapshot, key: snapshotResourceKey(snapshotter, value) }];
  }
  for (const [name, kind] of namedKinds) {
    const next = rest.charAt(name.length);
    const isKnown = kind !== (relation === Relation.Back ? onlyForward : onlyBack);
    if (isKnown && rest.startsWith(name) && (next === "" || next === "." || next === "/")) {
      return [{ relation, kind, key: value }];
    }
  }
  return [];
}

/** Reads `usedat<24h,usedat>72h|key`: conditions of which one must hold, and the key of the snapshot. */
function readConditionalSnapshots(rest: string, value: string): Reference[] {
  const bar = value.indexOf("|");
  if (bar < 0) {
    return [];
  }
  const snapshotter = beforeSlash(rest.replace(/^[./]+/, ""));
  const key = snapshotResourceKey(snapshotter, value.slice(bar + 1));
  return value
    .slice(0, bar)
    .split(",")
    .map((condition) => /^usedat([<>])([^=].*)$/s.exec(condition))
    .filter((match) => match !== null)
    .map((match) => ({
      relation: Relation.Conditional,
      kind: ResourceKind.Snapshot,
      key,
      condition: `${match[1]}${match[2]}`,
    }));
}

function beforeSlash(text: string): string {
  const slash = text.indexOf("/");
  return slash < 0 ? text : text.slice(0, slash);
}

/** Times are kept in ms, which SQLite can compare; a double has a part of a microsecond of the present. */
function findTimeMs(text: string): number | undefined {
  const ns = findRfc3339Ns(text);
  return ns === undefined ? undefined : Number(ns) / Number(nsPerMs);
}
