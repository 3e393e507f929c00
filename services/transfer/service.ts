import { createClient } from "@connectrpc/connect";
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
import { transferService } from "./rpc/transfer.ts";
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

function transferDefinitions(
  context: ProcessContext,
  { streams, leases, underWay }: TransferParts,
): PluginDefinition[] {
  const { config, log } = context;
  const verifiers = new Map<string, ImageVerifier>();
  let loaded: { readonly transfers: LocalTransfers; readonly hostDirectories: readonly string[] } | undefined;
  return [
    {
      manifest: verifierPlugin,
      init: () => {
        const settings = pluginTable(config, pluginUri(verifierPlugin));
        const verifier = new DirectoryVerifier({
          directory: settings.string("bin_dir"),
          verifiersMax: settings.integer("max_verifiers"),
          timeoutMs: settings.durationMs("per_verifier_timeout"),
          onOutput: (fields, text) => log.info(fields, `image verifier: ${text}`),
        });
        verifiers.set(verifierPlugin.id, verifier);
        return undefined;
      },
    },
    {
      manifest: localTransferPlugin,
      init: async () => {
        const settings = readTransferSettings(config);
        const snapshots = context.connect("snapshots");
        const { plugins } = await createClient(Member, snapshots.transport).describe({}, { timeoutMs: describeMsMax });
        const registries = new Registries(settings.registries, `containerd/${daemonVersion()}`);
        const metadata = context.connect("metadata");
        const transfers = new LocalTransfers({
          content: new ContentPeers({ content: context.connect("content"), metadata }),
          metadata,
          snapshots,
          leases,
          openRegistry: (request) => registries.open(request),
          verifiers,
          unpackTargets: findUnpackTargets(settings.unpackRules, plugins, settings),
          sideBySideMax: settings.sideBySideMax,
        });
        loaded = { transfers, hostDirectories: settings.hostDirectories };
        return undefined;
      },
    },
    {
      manifest: transferGrpcPlugin,
      init: () => {
        if (loaded === undefined) {
          throw new Error(`plugin ${pluginUri(localTransferPlugin)} is not loaded`);
        }
        const service = transferService({
          ...loaded,
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
