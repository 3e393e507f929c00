import type { Mount } from "#linux/mount.ts";
import type { AppliedLayer } from "./apply.ts";
import type { ContentOwner } from "./ports.ts";

/** A layer and where it goes. */
export interface ApplyOrder {
  readonly mediaType: string;
  readonly digest: string;
  readonly mounts: readonly Mount[];
  /** Encoded messages for stream processors, by their id. */
  readonly payloads: ReadonlyMap<string, Uint8Array>;
  /** Write out the file system before success is told. */
  readonly syncFileSystem: boolean;
  /** Size that the blob has to have; 0 when unknown. */
  readonly blobBytes: number;
  /** Count what was written, where it was written straight into a directory. */
  readonly measures?: boolean;
  /** Told now and then how many bytes of the blob have been used. */
  readonly onProgress?: (usedBytes: number) => void;
}

/** Applies layers to file systems. */
export interface LayerApplier {
  /** Whether a layer can only be applied on top of those below it. */
  readonly appliesInOrder: boolean;
  /** See `Differ.apply`. */
  apply(owner: ContentOwner, order: ApplyOrder): Promise<AppliedLayer>;
}
