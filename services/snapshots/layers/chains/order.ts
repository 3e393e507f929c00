import type { Digest } from "#containerd/digest.ts";
import type { Labels } from "#containerd/labels.ts";
import type { ChainSnapshots, ContentOwner } from "../ports.ts";

/** A layer of an image that is to be unpacked. */
export interface ChainLayer {
  readonly mediaType: string;
  readonly digest: Digest;
  /** 0 when unknown. */
  readonly sizeBytes: number;
  readonly annotations: Labels;
  /** Digest of the uncompressed layer, which its content has to have. */
  readonly diffId: Digest;
  /** Whether the bytes are known to be in the content store. */
  readonly isComplete: () => boolean;
  /** Resolves when they are there; rejects when they will not come. */
  readonly bytes: Promise<void>;
}

/** A chain of layers and where it goes. */
export interface ChainOrder {
  readonly owner: ContentOwner;
  readonly snapshots: ChainSnapshots;
  /** The lowest first. */
  readonly layers: readonly ChainLayer[];
  /** For every snapshot. */
  readonly labels: Labels;
  /** Layers that may be applied at a time; 0 for what suits the machine. */
  readonly sideBySideMax: number;
  readonly syncFileSystem: boolean;
  /** Whether programs that decrypt layers are told what they need to do it with keys of this machine. */
  readonly usesNodeKeys: boolean;
}

/** How far a layer is. */
export type LayerNews =
  /** No bytes are needed: the snapshot is there. Final. */
  | { readonly state: "present" }
  /** The bytes are waited for. */
  | { readonly state: "needed" }
  | { readonly state: "applying"; readonly usedBytes: number }
  /** The snapshot can be used. Final. */
  | {
      readonly state: "committed";
      readonly usedBytes: number;
      /** Of the uncompressed layer. */
      readonly sizeBytes: number;
      readonly elapsedMs: number;
    };

/** Told what happens to a chain. */
export interface ChainWatch {
  /** @param index - Of the layer. */
  onLayer(index: number, news: LayerNews & { readonly chainId: Digest }): void;
  /** An active snapshot of a failed unpacking could not be removed. It stays as long as the lease. */
  onLeft(key: string, error: unknown): void;
}

/** What came of a chain. */
export interface ChainResult {
  /** Name of the topmost snapshot, "" when there are no layers. */
  readonly chainId: string;
  /** Layers that this call has committed. */
  readonly committed: number;
}
