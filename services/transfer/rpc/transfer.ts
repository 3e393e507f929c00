import { ErrorKind, FlotillaError, isFailure } from "#base/errors.ts";
import { hostPlatform } from "#config/host-platform.ts";
import { platformFrom } from "#containerd/platform.ts";
import { Transfer } from "#gen/containerd/services/transfer/v1/transfer_pb.ts";
import type { ImageExportStream } from "#gen/containerd/types/transfer/importexport_pb.ts";
import type { OCIRegistry } from "#gen/containerd/types/transfer/registry_pb.ts";
import { bindService, type Call, type ServiceBinding } from "#wire/handler.ts";
import { leaseOf, namespaceHeader, requireNamespace } from "#wire/headers.ts";
import { echoBytes } from "../operations/echo.ts";
import type { ArchiveDestination } from "../operations/export.ts";
import type { ImageEnd } from "../operations/image-end.ts";
import type { ArchiveSource } from "../operations/import.ts";
import type { ProgressSink } from "../progress/progress.ts";
import { ProgressStream } from "../progress/progress-stream.ts";
import type { RegistryRequest } from "../registry/ports.ts";
import type { Caller } from "../store/caller.ts";
import { ByteSender, receiveBytes } from "../streams/byte-stream.ts";
import type { Stream } from "../streams/stream.ts";
import type { StreamTable } from "../streams/stream-table.ts";
import { registryRequest } from "./registry-end.ts";
import { readTransferEnd, type TransferEnd } from "./transfer-ends.ts";

/** What transfers can be made, each of one pair of ends. */
export interface Transfers {
  pull(call: TransferCall, source: RegistryRequest, destination: ImageEnd): Promise<void>;
  push(call: TransferCall, source: ImageEnd, destination: RegistryRequest): Promise<void>;
  exportImages(call: TransferCall, source: ImageEnd, destination: ArchiveDestination): Promise<void>;
  importImages(call: TransferCall, source: ArchiveSource, destination: ImageEnd): Promise<void>;
  tag(call: TransferCall, source: ImageEnd, destination: ImageEnd): Promise<void>;
}

/** On whose behalf a transfer is made, and who is told how far it is. */
export interface TransferCall {
  /** @throws {@link FlotillaError} when the client names no namespace, which bytes alone do not need. */
  caller(): Caller;
  readonly progress: ProgressSink;
  readonly signal: AbortSignal;
}

export interface TransferServiceOptions {
  readonly streams: StreamTable;
  readonly transfers: Transfers;
  /** Directories with a folder for each registry, where a client names none. */
  readonly hostDirectories: readonly string[];
  readonly onExchange: (text: string) => void;
  readonly onWarning: (reference: string, text: string) => void;
}

/**
 * The Transfer service: what it does is decided by the types of both ends. Every stream that a transfer uses is closed when it is over.
 *
 * @source containerd v2.3.4 plugins/services/transfer/service.go, core/transfer/local/transfer.go
 */
export function transferService(options: TransferServiceOptions): ServiceBinding {
  return bindService(Transfer, {
    transfer: async ({ source, destination, options: wishes }, call) => {
      await using resources = new AsyncDisposableStack();
      const namespace = call.header(namespaceHeader) ?? "";
      const openStream = (id: string): Stream =>
        resources.adopt(options.streams.get({ namespace, id }), (stream) => stream.close());
      const progress = openProgress(wishes?.progressStream ?? "", resources, (id) =>
        options.streams.get({ namespace, id }),
      );
      const [from, to] = [await readTransferEnd(source), await readTransferEnd(destination)];
      const unknown = (): FlotillaError =>
        new FlotillaError(
          ErrorKind.NotImplemented,
          `method Transfer not implemented for ${source?.typeUrl ?? ""} to ${destination?.typeUrl ?? ""}`,
        );
      try {
        const run = chooseTransfer(options, from, to, openStream);
        if (run === undefined) {
          throw unknown();
        }
        await run({ caller: () => callerOf(call), progress, signal: call.signal });
      } catch (error) {
        // What one kind of transfer cannot do is, in containerd, left to others, of which there are none.
        throw isFailure(error, ErrorKind.NotImplemented) ? unknown() : error;
      }
      return {};
    },
  });
}

function openProgress(id: string, resources: AsyncDisposableStack, open: (id: string) => Stream): ProgressSink {
  return id === "" ? () => undefined : resources.use(new ProgressStream(open(id))).sink;
}

type Run = (call: TransferCall) => Promise<void>;

/** @returns undefined when nothing goes from the one to the other. */
function chooseTransfer(
  options: TransferServiceOptions,
  from: TransferEnd,
  to: TransferEnd,
  openStream: (id: string) => Stream,
): Run | undefined {
  const { transfers } = options;
  const requestOf = (registry: OCIRegistry): RegistryRequest =>
    registryRequest(registry, {
      ...options,
      openStream,
      onWarning: (text) => options.onWarning(registry.reference, text),
    });
  if (from.kind === "registry" && to.kind === "store") {
    const source = requestOf(from.registry);
    return (call) => transfers.pull(call, source, to.store);
  }
  if (from.kind === "store" && to.kind === "registry") {
    const destination = requestOf(to.registry);
    return (call) => transfers.push(call, from.store, destination);
  }
  if (from.kind === "store" && to.kind === "export") {
    const destination = archiveDestination(to.archive, openStream);
    return (call) => transfers.exportImages(call, from.store, destination);
  }
  if (from.kind === "store" && to.kind === "store") {
    return (call) => transfers.tag(call, from.store, to.store);
  }
  if (from.kind === "import" && to.kind === "store") {
    const { stream, mediaType, forceCompress } = from.archive;
    const bytes = receiveBytes(openStream(stream));
    return (call) => transfers.importImages(call, { bytes, mediaType, compress: forceCompress }, to.store);
  }
  if (from.kind === "import" && to.kind === "export") {
    const bytes = receiveBytes(openStream(from.archive.stream));
    const sender = new ByteSender(openStream(to.archive.stream));
    return () => echoBytes(bytes, sender);
  }
  return undefined;
}

function archiveDestination(archive: ImageExportStream, openStream: (id: string) => Stream): ArchiveDestination {
  const platforms = archive.platforms.length === 0 ? [hostPlatform()] : archive.platforms;
  return {
    bytes: new ByteSender(openStream(archive.stream)),
    platforms: platforms.map(platformFrom),
    allPlatforms: archive.allPlatforms,
    skipDockerManifest: archive.skipCompatibilityManifest,
    skipNonDistributable: archive.skipNonDistributable,
  };
}

function callerOf(call: Call): Caller {
  return { namespace: requireNamespace(call), lease: leaseOf(call) };
}
