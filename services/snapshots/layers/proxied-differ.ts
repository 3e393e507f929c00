import { createClient } from "@connectrpc/connect";
import { parseDigest } from "#containerd/digest.ts";
import type { ProxyLink } from "#fleet/proxies/proxy-link.ts";
import { Diff } from "#gen/containerd/services/diff/v1/diff_pb.ts";
import { clientHeaders, leaseOf, requireNamespace } from "#wire/headers.ts";
import type { AppliedLayer } from "./apply.ts";
import type { DiffProvider } from "./diff-service.ts";
import type { ApplyOrder, LayerApplier } from "./layer-applier.ts";
import type { ContentOwner } from "./ports.ts";

/**
 * A differ that is somebody else's. Mounts and descriptors go to it as they are; it reads and writes content by itself, at our socket.
 *
 * @source containerd v2.3.4 core/diff/proxy/differ.go
 */
export class ProxiedDiffer implements LayerApplier {
  readonly appliesInOrder = true;
  readonly #client: ReturnType<typeof createClient<typeof Diff>>;

  constructor(link: ProxyLink) {
    this.#client = createClient(Diff, link.transport);
  }

  /** Passes calls of clients on. */
  get provider(): DiffProvider {
    const options = (call: Parameters<DiffProvider["apply"]>[1]) => ({
      headers: clientHeaders(requireNamespace(call), leaseOf(call)),
      signal: call.signal,
    });
    return {
      apply: (request, call) => this.#client.apply(request, options(call)),
      diff: (request, call) => this.#client.diff(request, options(call)),
    };
  }

  async apply({ namespace, lease, signal }: ContentOwner, order: ApplyOrder): Promise<AppliedLayer> {
    const { applied } = await this.#client.apply(
      {
        diff: { mediaType: order.mediaType, digest: order.digest, size: BigInt(order.blobBytes) },
        mounts: order.mounts.map(({ type, source, target = "", options }) => ({
          type,
          source,
          target,
          options: [...options],
        })),
        syncFs: order.syncFileSystem,
      },
      { headers: clientHeaders(namespace, lease), signal },
    );
    order.onProgress?.(order.blobBytes);
    return {
      digest: parseDigest(applied?.digest ?? ""),
      sizeBytes: Number(applied?.size ?? 0n),
      usedBytes: order.blobBytes,
      implied: [],
    };
  }
}
