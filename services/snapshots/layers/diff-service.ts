import { toBinary } from "@bufbuild/protobuf";
import { type Any, AnySchema, type Timestamp } from "@bufbuild/protobuf/wkt";
import { Diff } from "#gen/containerd/services/diff/v1/diff_pb.ts";
import type { Mount as MountMessage } from "#gen/containerd/types/mount_pb.ts";
import type { FileTime } from "#linux/file.ts";
import type { Mount } from "#linux/mount.ts";
import { bindService, type Call, type Handlers, type ServiceBinding } from "#wire/handler.ts";
import { leaseOf, requireNamespace } from "#wire/headers.ts";
import type { Differ } from "./differ.ts";
import { layerMediaType } from "./media-type.ts";
import type { ContentOwner } from "./ports.ts";

/**
 * The public Diff service.
 *
 * @param options - `syncFileSystem`: write out the file system after each layer, whether the client asks or not.
 */
export function diffService(differ: Differ, options: { readonly syncFileSystem: boolean }): ServiceBinding {
  const handlers: Handlers<typeof Diff> = {
    async apply({ diff, mounts, payloads, syncFs }, call) {
      const { digest, sizeBytes } = await differ.apply(ownerOf(call), {
        mediaType: diff?.mediaType ?? "",
        digest: diff?.digest ?? "",
        mounts: mounts.map(readMount),
        payloads: new Map(Object.entries(payloads).map(([id, payload]) => [id, encodePayload(payload)])),
        syncFileSystem: syncFs || options.syncFileSystem,
      });
      return { applied: { mediaType: layerMediaType, digest, size: BigInt(sizeBytes) } };
    },
    async diff({ left, right, mediaType, ref, labels, sourceDateEpoch }, call) {
      const blob = await differ.compare(ownerOf(call), {
        left: left.map(readMount),
        right: right.map(readMount),
        mediaType,
        ref,
        labels,
        latest: sourceDateEpoch === undefined ? undefined : readTime(sourceDateEpoch),
      });
      return { diff: { mediaType: blob.mediaType, digest: blob.digest, size: blob.sizeBytes } };
    },
  };
  return bindService(Diff, handlers);
}

function ownerOf(call: Call): ContentOwner {
  return { namespace: requireNamespace(call), lease: leaseOf(call), signal: call.signal };
}

function readMount({ type, source, target, options }: MountMessage): Mount {
  return { type, source, target, options };
}

function encodePayload(payload: Any): Uint8Array {
  return toBinary(AnySchema, payload);
}

function readTime({ seconds, nanos }: Timestamp): FileTime {
  return { seconds: Number(seconds), nanoseconds: nanos };
}
