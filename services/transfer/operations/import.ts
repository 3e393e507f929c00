import { ErrorKind, FlotillaError, isFailure } from "#base/errors.ts";
import { childrenOf, hasChildren, parseManifest } from "#containerd/image-manifest.ts";
import { isManifestType } from "#containerd/media-types.ts";
import { decompressed } from "../archives/compression.ts";
import { importArchive } from "../archives/import-archive.ts";
import { selectChildren } from "../domain/child-filter.ts";
import { childLabels } from "../domain/child-labels.ts";
import { type NamedImage, namesFor, namesFromArchive } from "../domain/image-names.ts";
import { Visits } from "../domain/visits.ts";
import type { ByteStream, Descriptor } from "../registry/ports.ts";
import type { ImageUnpacker } from "../unpack/unpacker.ts";
import { type ImageEnd, recordImages } from "./image-end.ts";
import { TaskGroup } from "./task-group.ts";
import type { TransferContext } from "./transfer-context.ts";

/** An archive that comes in. */
export interface ArchiveSource {
  readonly bytes: ByteStream;
  /** "" for an archive that may be compressed. */
  readonly mediaType: string;
  readonly compress: boolean;
}

/**
 * Imports the images of an archive and unpacks them where that is wanted. Which get a name, and which, is as the destination says; what
 * gets none goes with the lease.
 *
 * @source containerd v2.3.4 core/transfer/local/import.go
 */
export async function importImages(
  context: TransferContext,
  source: ArchiveSource,
  destination: ImageEnd,
  openUnpacker: ((signal: AbortSignal) => ImageUnpacker) | undefined,
): Promise<void> {
  const { content, progress, signal } = context;
  progress({ event: "Importing" });
  const bytes = source.mediaType === "" ? decompressed(source.bytes) : source.bytes;
  const index = await importArchive(content, bytes, { compress: source.compress, signal });
  const { manifests } = parseManifest(await content.readDocument(index, signal), index);
  await prepareImages(context, index, destination, openUnpacker);
  const now = new Date();
  await record(context, index, () => namesFor(index, destination, now));
  for (const manifest of manifests) {
    await record(context, manifest, () => namesFromArchive(manifest, destination, now));
  }
  progress({ event: "Completed import" });
}

/** Labels everything that is wanted so that it stays, and unpacks it. */
async function prepareImages(
  { content, signal }: TransferContext,
  index: Descriptor,
  destination: ImageEnd,
  openUnpacker: ((signal: AbortSignal) => ImageUnpacker) | undefined,
): Promise<void> {
  const tasks = new TaskGroup(signal);
  const filter = selectChildren(destination);
  const unpacker = openUnpacker?.(tasks.signal);
  let isEmpty = true;
  const visits = new Visits(async (descriptor: Descriptor): Promise<void> => {
    if (!hasChildren(descriptor)) {
      return;
    }
    const children = childrenOf(parseManifest(await content.readDocument(descriptor, tasks.signal), descriptor));
    await content.setLabels(descriptor.digest, childLabels(children), tasks.signal);
    const wanted = filter(descriptor, children);
    isEmpty &&= wanted.length === 0;
    const pending = wanted.map((child) => visits.visit(child));
    const layers = wanted.filter(({ mediaType }) => unpacker?.isLayer(mediaType) === true);
    const config = wanted.find(({ mediaType }) => unpacker?.isConfig(mediaType) === true);
    if (unpacker !== undefined && config !== undefined && layers.length > 0 && isManifestType(descriptor.mediaType)) {
      pending.push(unpacker.unpack({ manifest: descriptor, config, layers }));
    }
    await tasks.all(pending);
  });
  await tasks.all([visits.visit(index)]);
  if (isEmpty) {
    throw new FlotillaError(ErrorKind.Unknown, "image might be filtered out");
  }
}

async function record(context: TransferContext, target: Descriptor, names: () => readonly NamedImage[]): Promise<void> {
  let wanted: readonly NamedImage[];
  try {
    wanted = names();
  } catch (error) {
    if (isFailure(error, ErrorKind.NotFound)) {
      return;
    }
    throw error;
  }
  for (const { name } of await recordImages(context, target, wanted)) {
    context.progress({ event: "saved", name, descriptor: target });
  }
}
