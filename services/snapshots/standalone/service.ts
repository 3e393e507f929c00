import { ErrorKind, failure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { pluginUri } from "#config/manifest.ts";
import { completeTables } from "#config/plugin-tables.ts";
import { PluginSettings } from "#config/settings.ts";
import { compileFilters } from "#containerd/filter.ts";
import type { StandaloneContext } from "#fleet/standalone/run-standalone.ts";
import { type Info, Kind, Snapshots } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import { bindService, type Handlers, type ServiceBinding } from "#wire/handler.ts";
import type { SnapshotterFront, SnapshotterFronts } from "../domain/front.ts";
import { Snapshotter } from "../domain/snapshotter.ts";
import { snapshotDrivers } from "../drivers/index.ts";
import { snapshotsService } from "../rpc/snapshots.ts";
import { TreeThreads } from "../threads/tree-threads.ts";
import { LocalSnapshotIndex } from "./local-index.ts";

const driverDefault = "overlayfs";

/**
 * Puts a snapshotter together that stands alone: a driver (`--driver`, overlayfs unless given) below its root, and its records in a database there. It answers
 * whatever name it is called by. What a crash has left half removed is deleted at the start, what it has left unmade is made.
 */
export async function composeStandaloneSnapshots(context: StandaloneContext): Promise<ServiceBinding[]> {
  const { root, flags, log, resources } = context;
  const id = flags.get("driver") || driverDefault;
  const definition = snapshotDrivers.find(({ manifest }) => manifest.id === id);
  if (definition === undefined) {
    const known = snapshotDrivers.map(({ manifest }) => manifest.id).join(", ");
    throw failure(ErrorKind.InvalidArgument, `there is no driver ${quote(id)}, but ${known}`);
  }
  const uri = pluginUri(definition.manifest);
  const settings = new PluginSettings(completeTables({}, [definition.manifest])[uri] ?? {}, ["plugins", uri], []);
  const trees = resources.use(new TreeThreads());
  const driver = await definition.open({ root, settings, trees });
  const index = resources.use(new LocalSnapshotIndex(`${root}/flotilla-snapshots.db`));
  const snapshotter = new Snapshotter(id, driver, index, {
    onRecordLeft: ({ key }, error) => log.warn({ key, err: error }, "the record of a snapshot that was not made stays"),
    onRemovalFailed: (_name, error) => log.warn({ err: error }, "directories of snapshots could not be deleted"),
  });
  await repair(snapshotter, index, context);
  const own = snapshotsService(new SameForAll(snapshotter));
  const records = recordsService(snapshotter, index);
  return [{ service: own.service, handlers: { ...own.handlers, ...records.handlers } }];
}

async function repair(
  snapshotter: Snapshotter,
  index: LocalSnapshotIndex,
  { log }: Pick<StandaloneContext, "log">,
): Promise<void> {
  const { name, driver } = snapshotter;
  const ids = await driver.listIds();
  for (const { orphanIds, missing } of await index.reconcile([{ name, ids, proxied: false }])) {
    await snapshotter.removeReleased(orphanIds.map((id) => ({ id, backendName: "" })));
    for (const location of missing) {
      if (location.kind === "committed") {
        log.error({ id: String(location.id) }, "the directory of a committed snapshot is gone");
      } else {
        await snapshotter.create(location);
      }
    }
  }
}

/** The one snapshotter by whatever name. */
class SameForAll extends Map<string, SnapshotterFront> implements SnapshotterFronts {
  readonly #snapshotter: SnapshotterFront;

  constructor(snapshotter: SnapshotterFront) {
    super();
    this.#snapshotter = snapshotter;
  }

  override get(): SnapshotterFront {
    return this.#snapshotter;
  }
}

/** Snapshots in one message of a list. @source containerd v2.3.4 plugins/services/snapshots/service.go `List` */
const snapshotsPerMessageMax = 100;

const kindNames: Readonly<Record<Kind, string | undefined>> = {
  [Kind.UNKNOWN]: undefined,
  [Kind.VIEW]: "view",
  [Kind.ACTIVE]: "active",
  [Kind.COMMITTED]: "committed",
};

/** The methods of Snapshots that are answered from records; a removal deletes the directories at once. */
function recordsService(snapshotter: Snapshotter, index: LocalSnapshotIndex): ServiceBinding {
  const handlers = {
    stat: ({ key }) => ({ info: index.stat(key) }),
    update: async ({ info, updateMask }) => ({
      info: await index.update(info?.name ?? "", info?.labels ?? {}, updateMask?.paths ?? []),
    }),
    async *list({ filters }) {
      const matches = compileFilters(filters);
      const found = index.list().filter((info) => matches((path) => fieldOf(info, path)));
      for (let start = 0; start < found.length; start += snapshotsPerMessageMax) {
        yield { info: found.slice(start, start + snapshotsPerMessageMax) };
      }
    },
    remove: async ({ key }) => {
      const id = await index.take(key);
      await snapshotter.removeReleased([{ id, backendName: "" }]);
      return {};
    },
  } satisfies Pick<Handlers<typeof Snapshots>, "stat" | "update" | "list" | "remove">;
  return bindService(Snapshots, handlers);
}

/** @source containerd v2.3.4 core/metadata/adaptors.go `adaptSnapshot` */
function fieldOf({ kind, name, parent, labels }: Info, [field, ...rest]: readonly string[]): string | undefined {
  switch (field) {
    case "kind":
      return kindNames[kind];
    case "name":
      return name;
    case "parent":
      return parent;
    case "labels":
      return labels[rest.join(".")];
    default:
      return undefined;
  }
}
