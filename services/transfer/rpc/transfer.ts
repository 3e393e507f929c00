import { ErrorKind, FlotillaError, failure, isFailure } from "#base/errors.ts";
import { hostPlatform } from "#config/host-platform.ts";
import { platformFrom } from "#containerd/platform.ts";
import { Transfer } from "#gen/containerd/services/transfer/v1/transfer_pb.ts";
import type { ImageExportStream } from "#gen/containerd/types/transfer/importexport_pb.ts";
import type { OCIRegistry } from "#gen/containerd/types/transfer/registry_pb.ts";
import { bindService, type Call, type ServiceBinding } from "#wire/handler.ts";
import { leaseOf, namespaceHeader, nodeKeysHeader, requireNamespace, syncFileSystemHeader } from "#wire/headers.ts";
import { abortReason } from "#wire/session-holder.ts";
import { echoBytes } from "../operations/echo.ts";
import type { ArchiveDestination } from "../operations/export.ts";
import type { ImageEnd } from "../operations/image-end.ts";
import type { ArchiveSource } from "../operations/import.ts";
import type { ProgressSink } from "../progress/progress.ts";
import { ProgressStream } from "../progress/progress-stream.ts";
import type { RunningTransfer, TransferFacts, UnderWay } from "../progress/under-way.ts";
import type { ByteStream, DownloadLimits, RegistryRequest } from "../registry/ports.ts";
import type { Caller } from "../store/caller.ts";
import { ByteSender, receiveBytes } from "../streams/byte-stream.ts";
import type { Stream } from "../streams/stream.ts";
import type { StreamTable } from "../streams/stream-table.ts";
import { downloadLimits } from "./download-limits.ts";
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
  /** Whether layers are written out before they are committed. */
  readonly syncsFileSystem: boolean;
  /** Whether encrypted layers are decrypted with keys of this machine. */
  readonly usesNodeKeys: boolean;
  /** Limits of this transfer alone. */
  readonly limits: Partial<DownloadLimits>;
  readonly signal: AbortSignal;
}

export interface TransferServiceOptions {
  readonly streams: StreamTable;
  /** What makes transfers at the moment. */
  readonly current: () => {
    readonly transfers: Transfers;
    /** Directories with a folder for each registry, where a client names none. */
    readonly hostDirectories: readonly string[];
  };
  readonly underWay: UnderWay;
  readonly onExchange: (text: string) => void;
  readonly onWarning: (reference: string, text: string) => void;
}

/**
 * The Transfer service: what it does is decided by the types of both ends. Every stream that a transfer uses is closed when it is over,
 * and when it is to end: what waits for the client on one waits no longer then.
 *
 * A transfer whose process died is made again, and goes on from what was brought. What it told of and asked for by streams is lost: it is silent from
 * then on, and fails with `unavailable` where it can't do without the client: to ask for credentials, and for the bytes of archives.
 *
 * @source containerd v2.3.4 plugins/services/transfer/service.go, core/transfer/local/transfer.go
 */
export function transferService(options: TransferServiceOptions): ServiceBinding {
  return bindService(Transfer, {
    transfer: async ({ source, destination, options: wishes }, call) => {
      await using resources = new AsyncDisposableStack();
      const namespace = call.header(namespaceHeader) ?? "";
      // Streams end with the process that had them.
      const hasLostStreams = call.id?.repeatedAfterMs !== undefined;
      const getStream = (id: string): Stream => {
        if (hasLostStreams) {
          throw failure(ErrorKind.Unavailable, `stream ${id} has ended with the process that had it`);
        }
        return options.streams.get({ namespace, id });
      };
      const progressStream = hasLostStreams ? "" : (wishes?.progressStream ?? "");
      const progress = openProgress(progressStream, resources, getStream);
      const [from, to] = [await readTransferEnd(source), await readTransferEnd(destination)];
      const unknown = (): FlotillaError =>
        new FlotillaError(
          ErrorKind.NotImplemented,
          `method Transfer not implemented for ${source?.typeUrl ?? ""} to ${destination?.typeUrl ?? ""}`,
        );
      const chosen = chooseTransfer(options, from, to);
      if (chosen === undefined) {
        throw unknown();
      }
      using running = options.underWay.begin({ namespace, kind: chosen.kind, subject: chosen.subject }, call.signal);
      const { signal } = running;
      const openStream = (id: string): Stream => {
        const stream = resources.adopt(getStream(id), (opened) => opened.close());
        signal.addEventListener("abort", () => void stream.close(), { once: true });
        return stream;
      };
      const tell: ProgressSink = (event) => {
        running.note(event);
        progress(event);
      };
      try {
        const syncsFileSystem = call.header(syncFileSystemHeader) === "true";
        const caller = (): Caller => callerOf(call);
        const usesNodeKeys = call.header(nodeKeysHeader) === "true";
        const limits = downloadLimits(call);
        await chosen.run(
          { caller, progress: tell, syncsFileSystem, usesNodeKeys, limits, signal },
          { running, openStream, hasLostStreams },
        );
      } catch (error) {
        // What one kind of transfer cannot do is, in containerd, left to others, of which there are none.
        throw signal.aborted ? abortReason(signal) : isFailure(error, ErrorKind.NotImplemented) ? unknown() : error;
      }
      if (signal.aborted) {
        // A stream that is closed looks like one that has come to its end.
        throw abortReason(signal);
      }
      return {};
    },
  });
}

function openProgress(id: string, resources: AsyncDisposableStack, open: (id: string) => Stream): ProgressSink {
  return id === "" ? () => undefined : resources.use(new ProgressStream(open(id))).sink;
}

/** What a transfer is told by while it runs, and where its streams are. */
interface RunTools {
  readonly running: RunningTransfer;
  readonly openStream: (id: string) => Stream;
  /** Whether a process before this one has died with the streams. */
  readonly hasLostStreams: boolean;
}

interface Chosen extends Pick<TransferFacts, "kind" | "subject"> {
  run(call: TransferCall, tools: RunTools): Promise<void>;
}

/** @returns undefined when nothing goes from the one to the other. */
function chooseTransfer(options: TransferServiceOptions, from: TransferEnd, to: TransferEnd): Chosen | undefined {
  const { transfers, hostDirectories } = options.current();
  const requestOf = (registry: OCIRegistry, { running, openStream, hasLostStreams }: RunTools): RegistryRequest =>
    registryRequest(registry, {
      ...options,
      hostDirectories,
      openStream,
      hasLostStreams,
      onWarning: (text) => options.onWarning(registry.reference, text),
      onWaiting: (digest, count) => running.noteWaiting(digest, count),
    });
  if (from.kind === "registry" && to.kind === "store") {
    return {
      kind: "pull",
      subject: from.registry.reference,
      run: async (call, tools) =>
        transfers.pull(call, { ...requestOf(from.registry, tools), limits: call.limits }, to.store),
    };
  }
  if (from.kind === "store" && to.kind === "registry") {
    return {
      kind: "push",
      subject: to.registry.reference,
      run: async (call, tools) => transfers.push(call, from.store, requestOf(to.registry, tools)),
    };
  }
  if (from.kind === "store" && to.kind === "export") {
    return {
      kind: "export",
      subject: namesOf(from.store),
      run: async (call, tools) => transfers.exportImages(call, from.store, archiveDestination(to.archive, tools)),
    };
  }
  if (from.kind === "store" && to.kind === "store") {
    return { kind: "tag", subject: namesOf(to.store), run: (call) => transfers.tag(call, from.store, to.store) };
  }
  if (from.kind === "import" && to.kind === "store") {
    const { stream, mediaType, forceCompress } = from.archive;
    return {
      kind: "import",
      subject: to.store.name,
      run: async (call, tools) => {
        const bytes = counted(receiveBytes(tools.openStream(stream)), tools.running);
        await transfers.importImages(call, { bytes, mediaType, compress: forceCompress }, to.store);
      },
    };
  }
  if (from.kind === "import" && to.kind === "export") {
    return {
      kind: "echo",
      subject: "",
      run: async (_call, { running, openStream }) => {
        const bytes = counted(receiveBytes(openStream(from.archive.stream)), running);
        await echoBytes(bytes, new ByteSender(openStream(to.archive.stream)));
      },
    };
  }
  return undefined;
}

function namesOf({ name, rules }: ImageEnd): string {
  return [name, ...rules.map((rule) => rule.name)].filter((text) => text !== "").join(" ");
}

async function* counted(bytes: ByteStream, running: RunningTransfer): AsyncGenerator<Uint8Array> {
  for await (const piece of bytes) {
    running.addBytes(piece.length);
    yield piece;
  }
}

function archiveDestination(archive: ImageExportStream, { running, openStream }: RunTools): ArchiveDestination {
  const platforms = archive.platforms.length === 0 ? [hostPlatform()] : archive.platforms;
  return {
    bytes: new ByteSender(openStream(archive.stream), (bytes) => running.addBytes(bytes)),
    platforms: platforms.map(platformFrom),
    allPlatforms: archive.allPlatforms,
    skipDockerManifest: archive.skipCompatibilityManifest,
    skipNonDistributable: archive.skipNonDistributable,
  };
}

function callerOf(call: Call): Caller {
  return { namespace: requireNamespace(call), lease: leaseOf(call) };
}
