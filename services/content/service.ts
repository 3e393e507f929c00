import { KeyedLock } from "#base/keyed-lock.ts";
import { wallClock } from "#base/times.ts";
import { pluginRoot } from "#config/config.ts";
import { pluginTable } from "#config/defaults.ts";
import { pluginUri } from "#config/manifest.ts";
import type { Logger } from "#fleet/log.ts";
import { chooseContentStore } from "#fleet/proxies/content-store.ts";
import { ProxyLinks } from "#fleet/proxies/proxy-links.ts";
import { RemovalMarkReader } from "#fleet/removal-mark.ts";
import type { ProcessContext, ProcessParts } from "#fleet/run.ts";
import { BlobAccess } from "./domain/blob-access.ts";
import type { WriterParts } from "./domain/ingest-writer.ts";
import { OpenIngests } from "./domain/open-ingests.ts";
import type { Reconciliation } from "./domain/ports.ts";
import type { Removal } from "./domain/removal.ts";
import { BlobDirectories } from "./files/blob-directories.ts";
import { ensureDirectory } from "./files/directory.ts";
import { IngestDirectories } from "./files/ingest-files.ts";
import { ContentLayout } from "./files/layout.ts";
import { connectBlobIndex } from "./index-client.ts";
import { contentGrpcPlugin, contentPlugin, copiesPlugin } from "./plugins.ts";
import { CopyBudget } from "./proxied/copy-budget.ts";
import { ProxiedBlobs } from "./proxied/proxied-blobs.ts";
import { reconcileFiles } from "./reconcile.ts";
import { blobsService } from "./rpc/blobs.ts";
import { contentService } from "./rpc/content.ts";

/** @source containerd v2.3.4 plugins/content/local/store.go `NewLabeledStore` */
const directoryMode = 0o755;

/** How long a copy of a blob stays after its path was told: jobs that were given it may wait for others. */
const copyRestMs = 5 * 60_000;

/** Puts the content process together: files below the plugin's root, records in the metadata process. */
export async function composeContent(context: ProcessContext): Promise<ProcessParts> {
  const { config, log, stopping } = context;
  const chosen = await chooseContentStore(config);
  const proxy = context.proxies.find(({ manifest }) => chosen !== undefined && manifest.id === chosen.name);
  const root = pluginRoot(config, pluginUri(contentPlugin));
  const layout = new ContentLayout(proxy === undefined ? root : `${root}/proxied/${proxy.name}`);
  const ingests = new IngestDirectories(layout, wallClock);
  const index = connectBlobIndex(context.connect("metadata"));
  const access = new BlobAccess(index, context.resources.use(new RemovalMarkReader(config.state, "blob")));
  const directories = new BlobDirectories(layout);
  const budget = new CopyBudget({
    bytesMax: () => pluginTable(config, pluginUri(copiesPlugin)).integer("bytes_max"),
    restMs: copyRestMs,
    now: () => performance.now(),
  });
  const proxied =
    proxy === undefined ? undefined : new ProxiedBlobs(directories, layout, new ProxyLinks(context).get(proxy), budget);
  const parts: WriterParts = {
    index,
    ingests,
    blobs: proxied ?? directories,
    digestLocks: new KeyedLock(),
    openIngests: new OpenIngests(wallClock),
    clock: wallClock,
  };
  const prepareDirectories = async (): Promise<undefined> => {
    await ensureDirectory(`${layout.blobs}/sha256`, directoryMode);
    await ensureDirectory(layout.ingests, directoryMode);
    const damaged = await ingests.removeDamaged();
    if (damaged > 0) {
      log.warn({ count: damaged }, "removed ingests that no longer told their ref");
    }
  };
  return {
    plugins: [
      {
        manifest: contentPlugin,
        init: async () => {
          await prepareDirectories();
          logReconciliation(log, await reconcileFiles(parts, stopping));
          return { exports: { root: layout.root } };
        },
      },
      // What a store of somebody else has is not looked at: nobody is asked anything before a client does.
      ...(proxy === undefined
        ? []
        : [
            {
              manifest: proxy.manifest,
              init: async () => {
                await prepareDirectories();
                await proxied?.takeStock();
                return undefined;
              },
            },
          ]),
      { manifest: contentGrpcPlugin, init: () => ({ services: [contentService(parts, access)] }) },
    ],
    services: [blobsService(parts, access, (removal) => logRemoval(log, removal))],
  };
}

function logReconciliation(log: Logger, { orphanDigests, orphanBackendRefs, lostDigests }: Reconciliation): void {
  for (const digest of orphanDigests) {
    log.info({ digest }, "found a blob without a record");
  }
  for (const ref of orphanBackendRefs) {
    log.info({ ref }, "removed an ingest without a record");
  }
  for (const digest of lostDigests) {
    log.error({ digest }, "the file of a blob is gone; pulling or importing its image again brings it back");
  }
}

function logRemoval(log: Logger, { removed, failures }: Removal): void {
  for (const digest of removed) {
    log.debug({ digest }, "removed content");
  }
  for (const { what, error } of failures) {
    log.error({ content: what, err: error }, "removing content failed");
  }
}
