import { ErrorKind } from "#base/errors.ts";
import { backOff } from "../http/back-off.ts";
import type { RequestBody } from "../http/http-message.ts";
import { isTransient, RegistryError, wrapRegistryError } from "../http/registry-error.ts";
import type { ByteStream, ContentStore, Descriptor } from "../ports.ts";
import type { Repository } from "../repository.ts";
import type { UploadClient, UploadSession } from "./upload-session.ts";

/** How often in a row an upload may break without a byte more at the registry. */
const fruitlessAttemptsMax = 5;
/** The size of pieces where a blob is sent in pieces. */
const chunkBytes = 8 * 1024 * 1024;

/** A blob on its way to a registry. */
export interface BlobUpload {
  readonly repository: Repository;
  readonly uploads: UploadClient;
  readonly content: ContentStore;
  readonly descriptor: Descriptor;
  /** Another repository of the registry that has the blob, if one is known. */
  readonly mountFrom: string | undefined;
  readonly onOffset: (offset: number) => void;
  readonly signal: AbortSignal;
}

/**
 * Brings a blob into a repository: from another one if the registry can, else with its bytes.
 *
 * They go in one request. When that breaks and the registry says how much it has, the rest goes in pieces from there; when
 * it does not say, everything goes again. Where one request is too large for somebody on the way, all goes in pieces.
 *
 * @throws {@link RegistryError}
 * @source distribution/distribution-spec v1.1 spec.md "Pushing blobs"
 */
export async function uploadBlob(upload: BlobUpload): Promise<"uploaded" | "mounted"> {
  const { uploads, repository, signal } = upload;
  let session: UploadSession | "mounted" | undefined = await begin(upload);
  let inPieces = false;
  let failures = 0;
  let reached = 0;
  for (;;) {
    try {
      session ??= await uploads.begin();
      if (session === "mounted") {
        return "mounted";
      }
      await (inPieces || session.offset > 0 ? sendInPieces(upload, session) : sendWhole(upload, session));
      return "uploaded";
    } catch (error) {
      const isTooLarge: boolean = error instanceof RegistryError && error.status === 413 && !inPieces;
      if (signal.aborted || !(isTooLarge || isTransient(error))) {
        throw error;
      }
      inPieces ||= isTooLarge;
      session = isTooLarge ? undefined : await findProgress(upload, session);
      const offset = session?.offset ?? 0;
      failures = offset > reached ? 1 : failures + 1;
      reached = Math.max(reached, offset);
      if (failures > fruitlessAttemptsMax) {
        throw error;
      }
      await backOff({ firstMs: repository.settings.retryDelayMs, failures, signal });
    }
  }
}

/** How much of an upload that broke has arrived; undefined when it is to begin anew. */
async function findProgress(
  { uploads, descriptor }: BlobUpload,
  session: UploadSession | "mounted" | undefined,
): Promise<UploadSession | undefined> {
  if (session === undefined || session === "mounted") {
    return undefined;
  }
  try {
    const found = await uploads.findProgress(session);
    return found !== undefined && found.offset > 0 && found.offset <= descriptor.size ? found : undefined;
  } catch {
    // Nobody to ask. The next attempt will tell, and its failure is the one that counts.
    return undefined;
  }
}

async function begin({ uploads, descriptor, mountFrom }: BlobUpload): Promise<UploadSession | "mounted"> {
  if (mountFrom !== undefined) {
    try {
      return await uploads.begin({ digest: descriptor.digest, from: mountFrom });
    } catch (error) {
      // It may be a repository that we are not allowed to read. Then the bytes go.
      if (!(error instanceof RegistryError) || error.refusal === undefined) {
        throw wrapRegistryError(error, `pushing with mount from ${mountFrom}`);
      }
    }
  }
  return uploads.begin();
}

async function sendWhole(upload: BlobUpload, session: UploadSession): Promise<void> {
  const body = bodyOf(upload, 0, upload.descriptor.size);
  await upload.uploads.finish(session, upload.descriptor.digest, body);
}

async function sendInPieces(upload: BlobUpload, begun: UploadSession): Promise<void> {
  const { size, digest } = upload.descriptor;
  let session = begun;
  while (session.offset < size) {
    const lengthBytes = Math.min(size - session.offset, Math.max(chunkBytes, session.chunkBytesMin));
    const before = session.offset;
    session = await upload.uploads.append(session, bodyOf(upload, before, lengthBytes));
    if (session.offset <= before) {
      throw new RegistryError(ErrorKind.Unknown, `registry takes no bytes after ${before}`);
    }
  }
  await upload.uploads.finish(session, digest);
}

function bodyOf(
  { content, descriptor, signal, onOffset }: BlobUpload,
  offset: number,
  lengthBytes: number,
): RequestBody {
  return {
    lengthBytes,
    open: () => {
      const bytes = content.read(descriptor.digest, { offset, signal });
      return countBytes(bytes, lengthBytes, (sent) => onOffset(offset + sent));
    },
  };
}

async function* countBytes(
  bytes: ByteStream,
  lengthBytes: number,
  onSent: (sent: number) => void,
): AsyncGenerator<Uint8Array> {
  let sent = 0;
  for await (const piece of bytes) {
    const wanted = piece.subarray(0, lengthBytes - sent);
    sent += wanted.length;
    yield wanted;
    onSent(sent);
    if (sent === lengthBytes) {
      return;
    }
  }
}
