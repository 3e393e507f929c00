import { type ImagePlatform, orderedPlatforms } from "#containerd/platform.ts";
import { exportArchive } from "../archives/export-archive.ts";
import { planExport } from "../archives/export-plan.ts";
import type { ByteSender } from "../streams/byte-stream.ts";
import { type ImageEnd, lookUpImages } from "./image-end.ts";
import type { TransferContext } from "./transfer-context.ts";

/** An archive that goes out. */
export interface ArchiveDestination {
  readonly bytes: ByteSender;
  /** Platforms to export, the best first. */
  readonly platforms: readonly ImagePlatform[];
  readonly allPlatforms: boolean;
  readonly skipDockerManifest: boolean;
  readonly skipNonDistributable: boolean;
}

/** Exports images as an archive. @source containerd v2.3.4 core/transfer/local/export.go */
export async function exportImages(
  context: TransferContext,
  source: ImageEnd,
  destination: ArchiveDestination,
): Promise<void> {
  const { content, progress, signal } = context;
  progress({ event: "Exporting" });
  const images = await lookUpImages(context, source);
  const plan = await planExport(
    content,
    images,
    { ...destination, matcher: orderedPlatforms(destination.platforms) },
    signal,
  );
  for await (const piece of exportArchive(content, plan, signal)) {
    await destination.bytes.write(piece);
  }
  await destination.bytes.settle();
  progress({ event: "Completed export" });
}
