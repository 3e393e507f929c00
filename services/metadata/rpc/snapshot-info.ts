import { ErrorKind, errorMessage, FlotillaError, failure } from "#base/errors.ts";
import type { Filter } from "#containerd/filter.ts";
import { InfoSchema, Kind, Snapshots } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import { bindService, type Call, EncodedResponse, type Handlers, type ServiceBinding } from "#wire/handler.ts";
import { leaseOf, requireNamespace } from "#wire/headers.ts";
import type { SnapshotStore } from "../store/snapshots.ts";
import type { SnapshotterStore } from "../store/snapshotters.ts";
import { encodedResponse } from "./encoded.ts";
import { compileStreamFilters } from "./filtered.ts";
import { listInMessages } from "./pages.ts";
import { mapEntry, recordFields } from "./record-fields.ts";

/** Most records in one message of a list. @source containerd v2.3.4 plugins/services/snapshots/service.go `List` */
const recordsPerMessageMax = 100;

/** Tells a proxied snapshotter of labels that are about to change. What it throws is the client's. */
export type LabelListener = (update: {
  readonly snapshotter: string;
  readonly namespace: string;
  readonly backendName: string;
  readonly labels: Record<string, string>;
  readonly paths: string[];
}) => Promise<void>;

/**
 * Answers those methods of the Snapshots service that touch records alone.
 *
 * @source containerd v2.3.4 plugins/services/snapshots/service.go
 */
export function snapshotInfoService(
  snapshots: SnapshotStore,
  snapshotters: SnapshotterStore,
  tellBackend: LabelListener,
): ServiceBinding {
  const requireLoaded = (snapshotter: string): void => {
    if (snapshotter === "") {
      throw failure(ErrorKind.InvalidArgument, "snapshotter argument missing");
    }
    if (!snapshotters.isLoaded(snapshotter)) {
      throw failure(ErrorKind.InvalidArgument, `snapshotter not loaded: ${snapshotter}`);
    }
  };
  return bindService(Snapshots, {
    stat: ({ snapshotter, key }, call) => {
      requireLoaded(snapshotter);
      return encodedResponse([snapshots.get({ namespace: requireNamespace(call), snapshotter, key })]);
    },
    update: async ({ snapshotter, info, updateMask }, call) => {
      requireLoaded(snapshotter);
      const namespace = requireNamespace(call);
      const { name = "", labels = {} } = info ?? {};
      if (name === "") {
        throw new FlotillaError(ErrorKind.InvalidArgument, ErrorKind.InvalidArgument);
      }
      const paths = updateMask?.paths ?? [];
      const of = { namespace, snapshotter, key: name };
      const { backendName, labels: changed } = snapshots.previewUpdate(of, labels, paths);
      if (backendName !== "") {
        await tellBackend({ snapshotter, namespace, backendName, labels: changed, paths });
      }
      return { info: await snapshots.update(of, labels, paths) };
    },
    remove: async ({ snapshotter, key }, call) => {
      requireLoaded(snapshotter);
      await snapshots.remove({ namespace: requireNamespace(call), snapshotter, key }, leaseOf(call));
      return {};
    },
    async *list({ snapshotter, filters }, call) {
      requireLoaded(snapshotter);
      const { namespace, filter } = readListing(filters, call);
      const pages = listInMessages({
        countMax: recordsPerMessageMax,
        readPage: (afterKey, countMax) => snapshots.page({ namespace, snapshotter, key: afterKey }, countMax),
        filter,
        fieldsOf: snapshotFields,
      });
      for (const page of pages) {
        yield new EncodedResponse(page);
      }
    },
  } satisfies Pick<Handlers<typeof Snapshots>, "stat" | "update" | "remove" | "list">);
}

/** containerd lets the errors of a walk through without a class. */
function readListing(
  filters: readonly string[],
  call: Call,
): { readonly namespace: string; readonly filter: Filter | undefined } {
  try {
    return { namespace: requireNamespace(call), filter: compileStreamFilters(filters) };
  } catch (error) {
    throw new FlotillaError(ErrorKind.Unknown, errorMessage(error), { cause: error });
  }
}

const kindNames: Readonly<Record<Kind, string | undefined>> = {
  [Kind.UNKNOWN]: undefined,
  [Kind.VIEW]: "view",
  [Kind.ACTIVE]: "active",
  [Kind.COMMITTED]: "committed",
};

/** @source containerd v2.3.4 core/metadata/adaptors.go `adaptSnapshot` */
const snapshotFields = recordFields(InfoSchema, {
  kind: ({ kind }) => kindNames[kind],
  name: ({ name }) => name,
  parent: ({ parent }) => parent,
  labels: ({ labels }, path) => mapEntry(labels, path),
});
