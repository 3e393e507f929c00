import type { MessageInitShape } from "@bufbuild/protobuf";
import { nsPerMs } from "#base/times.ts";
import { Kind as SnapshotKind } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import { type Kind, type ListResponseSchema, References } from "#gen/flotilla/graph/v1/graph_pb.ts";
import type { Database } from "#sqlite/open.ts";
import { bindService, type Handlers, type ServiceBinding } from "#wire/handler.ts";
import { readLeaseResource } from "../domain/lease.ts";
import { Relation } from "../domain/reference-labels.ts";
import { ResourceKind } from "../domain/resource.ts";
import type { Records } from "../store/records.ts";

/** Most rows in one message, between which other calls run. */
const rowsPerMessage = 500;

type Part = MessageInitShape<typeof ListResponseSchema>;
type ResourcePart = NonNullable<Part["resources"]>[number];
type ReferencePart = NonNullable<Part["references"]>[number];

/** Shows what the collector follows, as of the beginning of the call. The numbers of kinds are the same on the wire. */
export function referencesService(records: Records): ServiceBinding {
  return bindService(References, {
    list: async function* () {
      const reader = records.openSnapshot();
      try {
        const nowMs = Number(records.clock() / nsPerMs);
        for (const resources of inParts(readResources(reader, nowMs))) {
          yield { resources };
        }
        for (const references of inParts(readReferences(reader))) {
          yield { references };
        }
      } finally {
        reader.close();
      }
    },
  } satisfies Handlers<typeof References>);
}

interface NodeRow {
  readonly namespace: string;
  readonly kind: ResourceKind;
  readonly key: string;
  readonly root: number;
  readonly flat: number;
  readonly expires_ms: number | null;
  readonly blob_size: bigint | number | null;
  readonly snapshot_size: bigint | number | null;
  readonly snapshot_kind: number | null;
}

function* readResources(reader: Database, nowMs: number): Generator<ResourcePart> {
  const rows = reader.prepare<[], NodeRow>(
    `SELECT nodes.*, blobs.size AS blob_size, snapshots.size AS snapshot_size, snapshots.kind AS snapshot_kind
     FROM nodes
     LEFT JOIN blobs ON nodes.kind = ${ResourceKind.Content}
       AND blobs.namespace = nodes.namespace AND blobs.digest = nodes.key
     LEFT JOIN snapshots ON nodes.kind = ${ResourceKind.Snapshot} AND snapshots.namespace = nodes.namespace
       AND snapshots.snapshotter = substr(nodes.key, 1, instr(nodes.key, '/') - 1)
       AND snapshots.key = substr(nodes.key, instr(nodes.key, '/') + 1)
     ORDER BY nodes.namespace, nodes.kind, nodes.key`,
  );
  for (const {
    namespace,
    kind,
    key,
    root,
    flat,
    expires_ms,
    blob_size,
    snapshot_size,
    snapshot_kind,
  } of rows.iterate()) {
    const size = blob_size ?? snapshot_size;
    yield {
      namespace,
      kind: kind as number as Kind,
      key,
      isRoot: root === 1 && (expires_ms === null || nowMs <= expires_ms),
      isFlat: flat === 1,
      ...(size === null ? {} : { size: BigInt(size) }),
      isCommitted: snapshot_kind === SnapshotKind.COMMITTED,
    };
  }
}

interface EdgeRow {
  readonly namespace: string;
  readonly source_kind: ResourceKind;
  readonly source: string;
  readonly relation: Relation;
  readonly kind: ResourceKind;
  readonly key: string;
}

interface LeaseRow {
  readonly namespace: string;
  readonly lease: string;
  readonly type: string;
  readonly id: string;
}

function* readReferences(reader: Database): Generator<ReferencePart> {
  const edges = reader.prepare<[], EdgeRow>("SELECT namespace, source_kind, source, relation, kind, key FROM edges");
  for (const { namespace, source_kind, source, relation, kind, key } of edges.iterate()) {
    const from = { kind: source_kind, key: source };
    const to = { kind, key };
    const [holder, held] = relation === Relation.Back ? [to, from] : [from, to];
    yield {
      namespace,
      holderKind: holder.kind as number as Kind,
      holder: holder.key,
      heldKind: held.kind as number as Kind,
      held: held.key,
      isStructural: relation === Relation.Structural,
    };
  }
  const leased = reader.prepare<[], LeaseRow>("SELECT namespace, lease, type, id FROM lease_resources");
  for (const { namespace, lease, type, id } of leased.iterate()) {
    const { kind, key } = readLeaseResource(namespace, { type, id });
    yield {
      namespace,
      holderKind: ResourceKind.Lease as number as Kind,
      holder: lease,
      heldKind: kind as number as Kind,
      held: key,
      isStructural: true,
    };
  }
}

function* inParts<T>(all: Iterable<T>): Generator<T[]> {
  let part: T[] = [];
  for (const one of all) {
    part.push(one);
    if (part.length === rowsPerMessage) {
      yield part;
      part = [];
    }
  }
  if (part.length > 0) {
    yield part;
  }
}
