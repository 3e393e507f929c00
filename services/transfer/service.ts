import { createClient } from "@connectrpc/connect";
import type { FleetConfig } from "#config/config.ts";
import { pluginTable } from "#config/defaults.ts";
import { pluginUri } from "#config/manifest.ts";
import type { PluginDefinition } from "#fleet/plugin.ts";
import type { ProcessContext, ProcessParts } from "#fleet/run.ts";
import { daemonVersion } from "#fleet/version.ts";
import { Member } from "#gen/flotilla/fleet/v1/fleet_pb.ts";
import { readTransferSettings } from "./config.ts";
import { LocalTransfers } from "./operations/transfers.ts";
import { localTransferPlugin, streamingGrpcPlugin, transferGrpcPlugin, verifierPlugin } from "./plugins.ts";
import { UnderWay } from "./progress/under-way.ts";
import { Registries } from "./registry/registry.ts";
import { streamingService } from "./rpc/streaming.ts";
import { type TransferServiceOptions, transferService } from "./rpc/transfer.ts";
import { transfersService } from "./rpc/transfers.ts";
import { ContentPeers } from "./store/content.ts";
import { connectLeases, type TransferLeases } from "./store/leases.ts";
import { LeaseWatch } from "./streams/lease-watch.ts";
import { StreamTable } from "./streams/stream-table.ts";
import { findUnpackTargets } from "./unpack/unpack-targets.ts";
import { DirectoryVerifier } from "./verifiers/directory-verifier.ts";
import type { ImageVerifier } from "./verifiers/verifier.ts";

/** How long the snapshots process may take to tell which snapshotters and differs it has. */
const describeMsMax = 60_000;

/** Puts the transfer process together: streams of clients, and images on their way in and out. */
export function composeTransfer(context: ProcessContext): ProcessParts {
  const { log, stopping } = context;
  const streams = new StreamTable();
  const underWay = new UnderWay();
  const leases = connectLeases(context.connect("metadata"), (error) =>
    log.warn({ err: error }, "a lease stays that nobody uses any more"),
  );
  const watch = new LeaseWatch(streams, leases, {
    stopping,
    onTrouble: (error) => log.warn({ err: error }, "the leases of streams could not be looked up"),
  });
  return {
    plugins: [
      { manifest: streamingGrpcPlugin, init: () => ({ services: [streamingService(streams, watch)] }) },
      ...transferDefinitions(context, { streams, leases, underWay }),
    ],
    services: [transfersService(underWay)],
  };
}

interface TransferParts {
  readonly streams: StreamTable;
  readonly leases: TransferLeases;
  readonly underWay: UnderWay;
}

/** What transfers are made by, until the configuration is read again. */
type LoadedTransfers = ReturnType<TransferServiceOptions["current"]>;

function transferDefinitions(
  context: ProcessContext,
  { streams, leases, underWay }: TransferParts,
): PluginDefinition[] {
  const { config, log } = context;
  const verifiers = new Map<string, ImageVerifier>();
  const openVerifier = (current: FleetConfig): ImageVerifier => {
    const settings = pluginTable(current, pluginUri(verifierPlugin));
    return new DirectoryVerifier({
      directory: settings.string("bin_dir"),
      verifiersMax: settings.integer("max_verifiers"),
      timeoutMs: settings.durationMs("per_verifier_timeout"),
      onOutput: (fields, text) => log.info(fields, `image verifier: ${text}`),
    });
  };
  let loaded: LoadedTransfers | undefined;
  return [
    {
      manifest: verifierPlugin,
      init: () => {
        verifiers.set(verifierPlugin.id, openVerifier(config));
        context.onReload((next) => {
          const verifier = openVerifier(next);
          return () => {
            verifiers.set(verifierPlugin.id, verifier);
          };
        });
        return undefined;
      },
    },
    {
      manifest: localTransferPlugin,
      init: async () => {
        const snapshots = context.connect("snapshots");
        const { plugins } = await createClient(Member, snapshots.transport).describe({}, { timeoutMs: describeMsMax });
        const metadata = context.connect("metadata");
        const content = new ContentPeers({ content: context.connect("content"), metadata });
        const openTransfers = (current: FleetConfig): LoadedTransfers => {
          const settings = readTransferSettings(current);
          const registries = new Registries(settings.registries, `containerd/${daemonVersion()}`);
          const transfers = new LocalTransfers({
            content,
            metadata,
            snapshots,
            leases,
            openRegistry: (request) => registries.open(request),
            verifiers,
            unpackTargets: findUnpackTargets(settings.unpackRules, plugins, settings),
            sideBySideMax: settings.sideBySideMax,
          });
          return { transfers, hostDirectories: settings.hostDirectories };
        };
        loaded = openTransfers(config);
        // Transfers that are under way go on as they began.
        context.onReload((next) => {
          const reopened = openTransfers(next);
          return () => {
            loaded = reopened;
          };
        });
        return undefined;
      },
    },
    {
      manifest: transferGrpcPlugin,
      init: () => {
        if (loaded === undefined) {
          throw new Error(`plugin ${pluginUri(localTransferPlugin)} is not loaded`);
        }
        const first = loaded;
        const service = transferService({
          current: () => loaded ?? first,
          streams,
          underWay,
          onExchange: (text) => log.info({ http: text }, "request to a registry"),
          onWarning: (reference, text) => log.warn({ ref: reference }, `registry: ${text}`),
        });
        return { services: [service] };
      },
    },
  ];
}
