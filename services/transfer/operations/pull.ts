import { ErrorKind, FlotillaError, failure, wrapFailure } from "#base/errors.ts";
import { MediaType } from "#containerd/media-types.ts";
import { selectChildren } from "../domain/child-filter.ts";
import { namesFor } from "../domain/image-names.ts";
import { ProgressTracker } from "../progress/progress-tracker.ts";
import type { Descriptor, Registry } from "../registry/ports.ts";
import type { ImageUnpacker, UnpackerParts } from "../unpack/unpacker.ts";
import type { ImageVerifier } from "../verifiers/verifier.ts";
import { convertLegacyManifest } from "./convert-manifest.ts";
import { type ImageEnd, recordImages } from "./image-end.ts";
import { ImageFetch } from "./image-fetch.ts";
import type { TransferContext } from "./transfer-context.ts";

/** What a pull needs besides its ends. */
export interface PullParts {
  readonly verifiers: ReadonlyMap<string, ImageVerifier>;
  /** Absent when the client does not want the image unpacked. */
  readonly openUnpacker:
    | ((parts: Pick<UnpackerParts, "tracker" | "signal" | "imageName">) => ImageUnpacker)
    | undefined;
}

/**
 * Pulls an image: finds it in its registry, has it verified, brings what is wanted of it, unpacks it, and records it under its names once
 * all is there.
 *
 * @source containerd v2.3.4 core/transfer/local/pull.go
 */
export async function pullImage(
  context: TransferContext,
  registry: Registry,
  destination: ImageEnd,
  { verifiers, openUnpacker }: PullParts,
): Promise<void> {
  const { content, progress, signal } = context;
  const { reference } = registry;
  const shown = `OCI Registry (${reference})`;
  progress({ event: `Resolving from ${shown}` });
  const target = await resolve(registry, signal);
  for (const [name, verifier] of verifiers) {
    await requireAccepted(name, verifier, { reference, target, signal });
  }
  progress({ event: `Pulling from ${shown}` });
  progress({ event: "fetching image content", name: reference, descriptor: target });
  using tracker = new ProgressTracker(reference, "downloading", progress);
  const fetch = new ImageFetch({
    content,
    registry,
    filter: selectChildren(destination),
    tracker,
    openUnpacker: openUnpacker && ((ending) => openUnpacker({ tracker, signal: ending, imageName: reference })),
    signal,
  });
  await fetch.run(target);
  const stored = fetch.hasLegacyConfig ? await convertLegacyManifest(content, target, signal) : target;
  for (const image of await recordImages(context, stored, namesFor(stored, destination, new Date()))) {
    progress({ event: "saved", name: image.name, descriptor: image.target });
  }
  progress({ event: `Completed pull from ${shown}` });
  tracker.repeat(target);
}

async function resolve(registry: Registry, signal: AbortSignal): Promise<Descriptor> {
  let target: Descriptor;
  try {
    target = await registry.resolve(signal);
  } catch (error) {
    throw wrapFailure(error, "failed to resolve image");
  }
  if (target.mediaType === MediaType.dockerSchema1) {
    throw failure(ErrorKind.InvalidArgument, "schema 1 image manifests are no longer supported");
  }
  return target;
}

async function requireAccepted(
  name: string,
  verifier: ImageVerifier,
  image: { readonly reference: string; readonly target: Descriptor; readonly signal: AbortSignal },
): Promise<void> {
  const { reference, target, signal } = image;
  let judgement: Awaited<ReturnType<ImageVerifier["verify"]>>;
  try {
    judgement = await verifier.verify({ name: reference, descriptor: target, signal });
  } catch (error) {
    throw wrapFailure(
      error,
      `blocking pull of ${reference} with digest ${target.digest}: image verifier ${name} returned error`,
    );
  }
  if (!judgement.isAccepted) {
    throw new FlotillaError(
      ErrorKind.Unknown,
      `image verifier ${name} blocked pull of ${reference} with digest ${target.digest} for reason: ${judgement.reason}`,
    );
  }
}
