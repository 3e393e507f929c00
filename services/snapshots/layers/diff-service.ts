import { toBinary } from "@bufbuild/protobuf";
import { type Any, AnySchema, type Timestamp } from "@bufbuild/protobuf/wkt";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { Diff } from "#gen/containerd/services/diff/v1/diff_pb.ts";
import type { Mount as MountMessage } from "#gen/containerd/types/mount_pb.ts";
import type { FileTime } from "#linux/inode.ts";
import type { Mount } from "#linux/mount.ts";
import { bindService, type Call, type Handlers, type ServiceBinding } from "#wire/handler.ts";
import { leaseOf, requireNamespace } from "#wire/headers.ts";
import type { Differ } from "./differ.ts";
import { findImageMediaType } from "./erofs/image-media-type.ts";
import { layerMediaType } from "./media-type.ts";
import type { ContentOwner } from "./ports.ts";

/** Something that answers calls of the Diff service, ours or somebody else's. */
export type DiffProvider = Handlers<typeof Diff>;

/**
 * The public Diff service: every provider is asked in turn until one can do what is wanted.
 *
 * @param providers - At least one, those of the moment.
 * @source containerd v2.3.4 plugins/services/diff/local.go
 */
export function diffService(providers: () => readonly DiffProvider[]): ServiceBinding {
  return bindService(Diff, {
    apply: (request, call) => firstThatCan(providers(), (provider) => provider.apply(request, call)),
    diff: (request, call) => firstThatCan(providers(), (provider) => provider.diff(request, call)),
  } satisfies DiffProvider);
}

async function firstThatCan<T>(
  providers: readonly DiffProvider[],
  ask: (provider: DiffProvider) => T | Promise<T>,
): Promise<T> {
  let last: unknown;
  for (const provider of providers) {
    try {
      return await ask(provider);
    } catch (error) {
      if (!isFailure(error, ErrorKind.NotImplemented)) {
        throw error;
      }
      last = error;
    }
  }
  throw last;
}

/**
 * Answers calls of the Diff service by our own differ.
 *
 * @param options - `syncFileSystem`: write out the file system after each layer, whether the client asks or not.
 */
export function ownDiffProvider(
  differ: Pick<Differ, "apply" | "compare">,
  options: { readonly syncFileSystem: boolean },
): DiffProvider {
  return {
    async apply({ diff, mounts, payloads, syncFs }, call) {
      const mediaType = diff?.mediaType ?? "";
      const { digest, sizeBytes } = await differ.apply(ownerOf(call), {
        mediaType,
        digest: diff?.digest ?? "",
        blobBytes: 0,
        mounts: mounts.map(readMount),
        payloads: new Map(Object.entries(payloads).map(([id, payload]) => [id, encodePayload(payload)])),
        syncFileSystem: syncFs || options.syncFileSystem,
      });
      return {
        applied: { mediaType: findImageMediaType(mediaType) ?? layerMediaType, digest, size: BigInt(sizeBytes) },
      };
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
