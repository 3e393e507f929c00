import { ErrorKind, failure, isFailure, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { compileFilters } from "#containerd/filter.ts";
import type { CallId } from "#wire/call-id.ts";
import type { OpenIngests } from "./open-ingests.ts";
import type { BlobIndex, IngestFiles, IngestName, IngestStatus } from "./ports.ts";

/** What questions about ingests need. */
export interface StatusParts {
  readonly index: BlobIndex;
  readonly ingests: IngestFiles;
}

/** How far an ingest is, by the client's name. */
export type NamedStatus = IngestStatus & { readonly ref: string };

/**
 * How far an ingest is.
 *
 * @throws {@link FlotillaError} `not_found` when there is no such ingest, or none that has a file.
 * @source containerd v2.3.4 plugins/services/content/contentserver/contentserver.go `(*service).Status`
 */
export async function getIngestStatus(parts: StatusParts, { namespace, ref }: IngestName): Promise<NamedStatus> {
  try {
    const [found] = await parts.index.listIngests(namespace, ref);
    if (found === undefined) {
      throw failure(ErrorKind.NotFound, `reference ${ref}`);
    }
    return { ...(await parts.ingests.getStatus(found.backendRef)), ref };
  } catch (error) {
    throw wrapFailure(error, `could not get status for ref ${quote(ref)}`);
  }
}

/**
 * The ingests of a namespace that have a file and pass the filters, by ref. The one field for filters is `ref`.
 *
 * @throws {@link FlotillaError} `invalid_argument` when a filter makes no sense.
 * @source containerd v2.3.4 core/metadata/content.go `(*contentStore).ListStatuses`
 */
export async function listIngestStatuses(
  parts: StatusParts,
  namespace: string,
  filters: readonly string[],
): Promise<NamedStatus[]> {
  const matches = compileFilters(filters);
  const statuses: NamedStatus[] = [];
  for (const { ref, backendRef } of await parts.index.listIngests(namespace)) {
    if (matches(([field]) => (field === "ref" ? ref : undefined))) {
      const status = await findStatus(parts, backendRef);
      if (status !== undefined) {
        statuses.push({ ...status, ref });
      }
    }
  }
  return statuses;
}

async function findStatus(parts: StatusParts, backendRef: string): Promise<IngestStatus | undefined> {
  try {
    return await parts.ingests.getStatus(backendRef);
  } catch (error) {
    if (isFailure(error, ErrorKind.NotFound)) {
      return undefined;
    }
    throw error;
  }
}

/**
 * Ends an ingest: the record first, then the bytes. When a client writes it at the moment, the bytes go when that client
 * lets go of them.
 *
 * @throws {@link FlotillaError} `not_found` when there is no such ingest.
 */
export async function abortIngest(
  parts: StatusParts & { readonly openIngests: OpenIngests },
  ingest: IngestName & { readonly lease: string; readonly call: CallId | undefined },
): Promise<void> {
  const backendRef = await parts.index.removeIngest(ingest);
  parts.openIngests.markEnded(ingest);
  await removeIngestFiles(parts, backendRef);
}

/** Removes the files of an ingest that has no record, at once or when its writer lets go of them. */
export async function removeIngestFiles(
  parts: { readonly ingests: IngestFiles; readonly openIngests: OpenIngests },
  backendRef: string,
): Promise<void> {
  using lock = parts.openIngests.lockOrAbandon(backendRef);
  if (lock !== undefined) {
    await parts.ingests.remove(backendRef);
  }
}
