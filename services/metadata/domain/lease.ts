import { randomBytes } from "node:crypto";
import { ErrorKind, FlotillaError, failure } from "#base/errors.ts";
import { nsPerSecond } from "#base/times.ts";
import { findDigestFault } from "#containerd/digest.ts";
import { type Resource, ResourceKind, snapshotResourceKey } from "./resource.ts";

/** Something that a lease holds, as clients name it. */
export interface LeaseResource {
  /** `content`, `images`, `ingests` or `snapshots/<snapshotter>`. */
  readonly type: string;
  readonly id: string;
}

const plainKinds = {
  content: ResourceKind.Content,
  images: ResourceKind.Image,
  ingests: ResourceKind.Ingest,
} as const;

/** Type of the mounts that a lease holds. Clients neither name it nor see it. */
export const mountLeaseType = "mounts";

/** Reads what a lease is recorded to hold. */
export function readLeaseResource(namespace: string, resource: LeaseResource): Resource {
  return resource.type === mountLeaseType
    ? { namespace, kind: ResourceKind.Mount, key: resource.id }
    : parseLeaseResource(namespace, resource);
}

/**
 * Reads what a client wants a lease to hold. It need not exist.
 *
 * @throws {@link FlotillaError} `not_implemented` for an unknown type, `invalid_argument` for one in a wrong form, and `unknown`
 *   where containerd's database refuses an empty name.
 * @source containerd v2.3.4 core/metadata/leases.go `parseLeaseResource`
 */
export function parseLeaseResource(namespace: string, { type, id }: LeaseResource): Resource {
  const parts = type.split("/");
  const [name = "", snapshotter = ""] = parts;
  if (Object.hasOwn(plainKinds, name)) {
    if (parts.length !== 1) {
      throw failure(ErrorKind.InvalidArgument, `invalid resource type ${type}`);
    }
    const fault = name === "content" ? findDigestFault(id) : undefined;
    if (fault !== undefined) {
      throw failure(ErrorKind.InvalidArgument, `invalid content resource id ${id}: ${fault}`);
    }
    refuseEmpty(id, "key required");
    return { namespace, kind: plainKinds[name as keyof typeof plainKinds], key: id };
  }
  if (name !== "snapshots") {
    throw failure(ErrorKind.NotImplemented, `resource type ${type} not supported yet`);
  }
  if (parts.length !== 2) {
    throw failure(ErrorKind.InvalidArgument, `invalid snapshot resource type ${type}`);
  }
  refuseEmpty(snapshotter, "bucket name required");
  refuseEmpty(id, "key required");
  return { namespace, kind: ResourceKind.Snapshot, key: snapshotResourceKey(snapshotter, id) };
}

function refuseEmpty(name: string, message: string): void {
  if (name === "") {
    throw new FlotillaError(ErrorKind.Unknown, message);
  }
}

/**
 * Makes a name for a lease of which the client gave none.
 *
 * @source containerd v2.3.4 core/leases/id.go `WithRandomID`
 */
export function randomLeaseId(nowNs: bigint): string {
  return `${nowNs % nsPerSecond}-${randomBytes(3).toString("base64url")}`;
}
