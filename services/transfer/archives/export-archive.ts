import { createHash } from "node:crypto";
import { ErrorKind, FlotillaError, wrapFailure } from "#base/errors.ts";
import { digestOfHash, splitDigest } from "#containerd/digest.ts";
import { MediaType } from "#containerd/media-types.ts";
import { asByteString, toByteString } from "#linux/bytes.ts";
import { MemberType, type TarMember } from "#tar/tar-format.ts";
import { archiveEnd, encodeMember, paddingOf } from "#tar/tar-writer.ts";
import { descriptorJson } from "../domain/descriptor-json.ts";
import { goJson } from "../domain/go-json.ts";
import type { Descriptor } from "../registry/ports.ts";
import type { TransferContent } from "../store/content.ts";

/** What goes into an archive. */
export interface ArchivePlan {
  /** What `index.json` names, with names and sources as annotations. */
  readonly manifests: readonly Descriptor[];
  /** Every blob. Those that are named twice are written once. */
  readonly blobs: readonly Descriptor[];
  /** The images as `docker load` reads them; undefined to leave `manifest.json` out. */
  readonly dockerImages: readonly object[] | undefined;
}

interface Entry {
  readonly name: string;
  readonly mode: number;
  readonly type: string;
  readonly body?: Buffer | Descriptor;
}

/**
 * Writes an OCI layout as an archive, its files in the order of their names and without times, so that the same images make the same
 * bytes; those are containerd's.
 *
 * @throws {@link FlotillaError} `not_found` when a blob is not there, `unknown` when one is not what its digest says.
 * @source containerd v2.3.4 core/images/archive/exporter.go `Export`, `writeTar`
 */
export async function* exportArchive(
  content: TransferContent,
  plan: ArchivePlan,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  for (const { name, mode, type, body } of sortedEntries(plan)) {
    const sizeBytes = body === undefined ? 0 : Buffer.isBuffer(body) ? body.length : body.size;
    yield encodeMember(memberOf(name, mode, type, sizeBytes));
    if (Buffer.isBuffer(body)) {
      yield body;
    } else if (body !== undefined) {
      yield* verifiedBlob(content, body, signal);
    }
    yield paddingOf(sizeBytes);
  }
  yield archiveEnd;
}

function sortedEntries({ manifests, blobs, dockerImages }: ArchivePlan): Entry[] {
  const entries = new Map<string, Entry>();
  const add = (entry: Entry): void => {
    entries.set(entry.name, entry);
  };
  const addJson = (name: string, mode: number, value: unknown): void =>
    add({ name, mode, type: MemberType.Regular, body: goJson(value) });
  addJson("oci-layout", 0o444, { imageLayoutVersion: "1.0.0" });
  addJson("index.json", 0o644, {
    schemaVersion: 2,
    mediaType: MediaType.ociIndex,
    manifests: manifests.map(descriptorJson),
  });
  if (dockerImages !== undefined) {
    addJson("manifest.json", 0o644, dockerImages);
  }
  for (const blob of blobs) {
    const { algorithm } = splitDigest(blob.digest);
    add({ name: "blobs/", mode: 0o755, type: MemberType.Directory });
    add({ name: `blobs/${algorithm}/`, mode: 0o755, type: MemberType.Directory });
    add({ name: blobPath(blob), mode: 0o444, type: MemberType.Regular, body: blob });
  }
  return [...entries.values()].sort((left, right) => (left.name < right.name ? -1 : 1));
}

/** Where a blob lies in an OCI layout. */
export function blobPath({ digest }: Pick<Descriptor, "digest">): string {
  const { algorithm, encoded } = splitDigest(digest);
  return `blobs/${algorithm}/${encoded}`;
}

function memberOf(name: string, mode: number, type: string, sizeBytes: number): TarMember {
  return {
    name: toByteString(name),
    type,
    linkName: asByteString(""),
    mode,
    user: 0,
    group: 0,
    sizeBytes,
    modified: { seconds: 0, nanoseconds: 0 },
    accessed: undefined,
    deviceMajor: 0,
    deviceMinor: 0,
    attributes: new Map(),
  };
}

async function* verifiedBlob(
  content: TransferContent,
  { digest, size }: Descriptor,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const { algorithm } = splitDigest(digest);
  const hash = createHash(algorithm);
  let length = 0;
  try {
    for await (const piece of content.read(digest, { offset: 0, signal })) {
      hash.update(piece);
      length += piece.length;
      if (length > size) {
        break;
      }
      yield piece;
    }
  } catch (error) {
    throw wrapFailure(error, "failed to get reader");
  }
  if (length !== size) {
    throw new FlotillaError(ErrorKind.Unknown, `unexpected copy size for ${blobPath({ digest })}`);
  }
  const actual = digestOfHash(hash, algorithm);
  if (actual !== digest) {
    throw new FlotillaError(ErrorKind.Unknown, `unexpected digest ${actual} copied`);
  }
}
