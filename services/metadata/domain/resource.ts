/** The kinds of resources that the collector knows, as numbers, since they are stored with every reference. */
export const ResourceKind = {
  Content: 1,
  Snapshot: 2,
  Container: 3,
  Image: 4,
  Lease: 5,
  Ingest: 6,
  Sandbox: 7,
  Mount: 8,
} as const;

export type ResourceKind = (typeof ResourceKind)[keyof typeof ResourceKind];

/** A resource, which may or may not exist. */
export interface Resource {
  readonly namespace: string;
  readonly kind: ResourceKind;
  /** Digest, name, id or ref; of a snapshot `<snapshotter>/<key>`. */
  readonly key: string;
}

/** The key of a snapshot among all resources. A snapshotter's name holds no slash. */
export function snapshotResourceKey(snapshotter: string, key: string): string {
  return `${snapshotter}/${key}`;
}

/** The way back from {@link snapshotResourceKey}. */
export function splitSnapshotResourceKey(resourceKey: string): { readonly snapshotter: string; readonly key: string } {
  const slash = resourceKey.indexOf("/");
  return { snapshotter: resourceKey.slice(0, slash), key: resourceKey.slice(slash + 1) };
}
