import type { MessageInitShape } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { timestampOf } from "#base/times.ts";
import { findDigestFault, isDigest } from "#containerd/digest.ts";
import {
  Content,
  ReadContentResponseSchema,
  type StatusSchema,
  type WriteAction,
} from "#gen/containerd/services/content/v1/content_pb.ts";
import { bindService, EncodedResponse, type Handlers, type ServiceBinding } from "#wire/handler.ts";
import { leaseOf, requireNamespace } from "#wire/headers.ts";
import { SpacedBlock } from "#wire/spaced-block.ts";
import type { BlobAccess } from "../domain/blob-access.ts";
import { abortIngest, getIngestStatus, listIngestStatuses, type NamedStatus } from "../domain/ingest-status.ts";
import type { WriterParts } from "../domain/ingest-writer.ts";
import { type ReadRange, rangeOf, readChunks, readSmallPart } from "../domain/read-range.ts";
import { runWriteSession } from "../domain/write-session.ts";

type OwnMethods = Pick<Handlers<typeof Content>, "read" | "write" | "status" | "listStatuses" | "abort">;

/** The methods of containerd's Content service that deal with bytes; the others only deal with records. */
export function contentService(parts: WriterParts, access: BlobAccess): ServiceBinding {
  const methods: OwnMethods = {
    async *read(request, call) {
      const { digest } = request;
      if (!isDigest(digest)) {
        throw new FlotillaError(ErrorKind.InvalidArgument, `${digest}: ${findDigestFault(digest)}`);
      }
      const wanted = { namespace: requireNamespace(call), digest };
      const known = access.find(wanted);
      const part = known === undefined ? undefined : readSmallPart(parts.blobs, digest, rangeOf(request, known));
      if (part !== undefined) {
        yield new EncodedResponse(encodeHead(part.offset, part.data.byteLength), part.data);
        return;
      }
      // Beside the question whether the namespace has it, whose answer goes first.
      const opening = parts.blobs.open(digest);
      opening.catch(() => undefined);
      let range: ReadRange;
      try {
        range = rangeOf(request, await access.get(wanted));
      } catch (error) {
        // Whether it could be opened is nobody's business.
        opening.then((reader) => reader.close()).catch(() => undefined);
        throw error;
      }
      for await (const { offset, lengthBytes, memory } of readChunks(await opening, range, makeBlock)) {
        yield memory.message(encodeHead(offset, lengthBytes), lengthBytes);
      }
    },
    async *write(requests, call) {
      const origin = { namespace: requireNamespace(call), lease: leaseOf(call), signal: call.signal };
      // A message is answered when its bytes are with the kernel.
      call.borrowRequests?.();
      for await (const { action, startedAtNs, updatedAtNs, ...reply } of runWriteSession(parts, origin, requests)) {
        yield {
          ...reply,
          action: action as WriteAction,
          ...(startedAtNs === undefined ? {} : { startedAt: timestampOf(startedAtNs) }),
          ...(updatedAtNs === undefined ? {} : { updatedAt: timestampOf(updatedAtNs) }),
        };
      }
    },
    async status({ ref }, call) {
      return { status: statusOf(await getIngestStatus(parts, { namespace: requireNamespace(call), ref })) };
    },
    async listStatuses({ filters }, call) {
      return { statuses: (await listIngestStatuses(parts, requireNamespace(call), filters)).map(statusOf) };
    },
    async abort({ ref }, call) {
      await abortIngest(parts, { namespace: requireNamespace(call), ref, lease: leaseOf(call), call: call.id });
      return {};
    },
  };
  return bindService(Content, methods);
}

const makeBlock = (bytesMax: number): SpacedBlock => new SpacedBlock(bytesMax);

/** What stands before the bytes of a chunk in its message. */
function encodeHead(offset: bigint, lengthBytes: number): Uint8Array {
  const head = new BinaryWriter();
  if (offset !== 0n) {
    head.tag(ReadContentResponseSchema.field.offset.number, WireType.Varint).int64(offset);
  }
  head.tag(ReadContentResponseSchema.field.data.number, WireType.LengthDelimited).uint32(lengthBytes);
  return head.finish();
}

function statusOf(status: NamedStatus): MessageInitShape<typeof StatusSchema> {
  return {
    ref: status.ref,
    startedAt: timestampOf(status.startedAtNs),
    updatedAt: timestampOf(status.updatedAtNs),
    offset: status.offsetBytes,
    total: status.totalBytes,
  };
}
