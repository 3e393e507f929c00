import { type Client, createClient } from "@connectrpc/connect";
import { Layers } from "#gen/flotilla/layers/v1/layers_pb.ts";
import type { RpcConnection } from "#wire/client.ts";
import type { Registry, RegistryRequest } from "../registry/ports.ts";
import type { TransferCall, Transfers } from "../rpc/transfer.ts";
import type { Caller } from "../store/caller.ts";
import { type ContentPeers, TransferContent } from "../store/content.ts";
import { TransferImages } from "../store/images.ts";
import type { TransferLeases } from "../store/leases.ts";
import { chooseUnpackTargets, type UnpackTarget } from "../unpack/unpack-targets.ts";
import { ImageUnpacker, type UnpackerParts } from "../unpack/unpacker.ts";
import type { ImageVerifier } from "../verifiers/verifier.ts";
import { type ArchiveDestination, exportImages } from "./export.ts";
import type { ImageEnd } from "./image-end.ts";
import { type ArchiveSource, importImages } from "./import.ts";
import { pullImage } from "./pull.ts";
import { pushImage } from "./push.ts";
import { tagImage } from "./tag.ts";
import type { TransferContext } from "./transfer-context.ts";

/** What all transfers of a process share. */
export interface LocalTransferParts {
  readonly content: ContentPeers;
  readonly metadata: RpcConnection;
  readonly snapshots: RpcConnection;
  readonly leases: TransferLeases;
  readonly openRegistry: (request: RegistryRequest) => Promise<Registry>;
  readonly verifiers: ReadonlyMap<string, ImageVerifier>;
  readonly unpackTargets: readonly UnpackTarget[];
  /** How many layers of an image may be applied at a time; 0 for what suits the machine. */
  readonly sideBySideMax: number;
}

/** Transfers between registries, archives and the stores of the fleet. */
export class LocalTransfers implements Transfers {
  readonly #parts: LocalTransferParts;
  readonly #layers: Client<typeof Layers>;

  constructor(parts: LocalTransferParts) {
    this.#parts = parts;
    this.#layers = createClient(Layers, parts.snapshots.transport);
  }

  pull(call: TransferCall, source: RegistryRequest, destination: ImageEnd): Promise<void> {
    return this.#leased(call, async (context, caller) => {
      await using registry = await this.#parts.openRegistry(source);
      const open = this.#unpackerFor(context, caller, destination, call);
      await pullImage(context, registry, destination, { verifiers: this.#parts.verifiers, openUnpacker: open });
    });
  }

  async push(call: TransferCall, source: ImageEnd, destination: RegistryRequest): Promise<void> {
    const context = this.#contextOf(call, call.caller());
    await using registry = await this.#parts.openRegistry(destination);
    await pushImage(context, source, registry);
  }

  exportImages(call: TransferCall, source: ImageEnd, destination: ArchiveDestination): Promise<void> {
    return this.#leased(call, (context) => exportImages(context, source, destination));
  }

  importImages(call: TransferCall, source: ArchiveSource, destination: ImageEnd): Promise<void> {
    return this.#leased(call, async (context, caller) => {
      const open = this.#unpackerFor(context, caller, destination, call);
      await importImages(
        context,
        source,
        destination,
        open && ((signal) => open({ tracker: undefined, signal, imageName: destination.name })),
      );
    });
  }

  tag(call: TransferCall, source: ImageEnd, destination: ImageEnd): Promise<void> {
    return this.#leased(call, (context) => tagImage(context, source, destination));
  }

  #leased(call: TransferCall, work: (context: TransferContext, caller: Caller) => Promise<void>): Promise<void> {
    return this.#parts.leases.hold(call.caller(), (caller) => work(this.#contextOf(call, caller), caller));
  }

  #contextOf({ progress, signal }: TransferCall, caller: Caller): TransferContext {
    const { content, metadata } = this.#parts;
    return {
      content: new TransferContent(content, caller),
      images: new TransferImages(metadata, caller),
      progress,
      signal,
    };
  }

  /** @returns undefined when the client wants nothing unpacked. */
  #unpackerFor(
    { content }: TransferContext,
    caller: Caller,
    { unpacks }: ImageEnd,
    { syncsFileSystem, usesNodeKeys }: TransferCall,
  ) {
    const { unpackTargets, sideBySideMax } = this.#parts;
    const targets = chooseUnpackTargets(unpacks, unpackTargets);
    const parts = { layers: this.#layers, caller, content, targets, sideBySideMax, syncsFileSystem, usesNodeKeys };
    return targets.length === 0
      ? undefined
      : (own: Pick<UnpackerParts, "tracker" | "signal" | "imageName">) => new ImageUnpacker({ ...parts, ...own });
  }
}
