import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { isDigest, parseDigest } from "#containerd/digest.ts";
import { Content, InfoSchema } from "#gen/containerd/services/content/v1/content_pb.ts";
import { bindService, EncodedResponse, type Handlers, type ServiceBinding } from "#wire/handler.ts";
import { leaseOf, requireNamespace } from "#wire/headers.ts";
import type { BlobStore } from "../store/blobs.ts";
import { encodedResponse } from "./encoded.ts";
import { compileStreamFilters } from "./filtered.ts";
import { listInMessages } from "./pages.ts";
import { mapEntry, recordFields } from "./record-fields.ts";

/** Most records in one message of a list. @source containerd v2.3.4 plugins/services/content/contentserver/contentserver.go `List` */
const recordsPerMessageMax = 100;

/**
 * Answers those methods of the Content service that touch records alone.
 *
 * @source containerd v2.3.4 plugins/services/content/contentserver/contentserver.go
 */
export function contentInfoService(blobs: BlobStore): ServiceBinding {
  return bindService(Content, {
    info: ({ digest }, call) => {
      requireDigest(digest);
      return encodedResponse([blobs.get(requireNamespace(call), digest)]);
    },
    update: async ({ info, updateMask }, call) => {
      const { digest = "", labels = {} } = info ?? {};
      requireDigest(digest);
      return { info: await blobs.update(requireNamespace(call), digest, labels, updateMask?.paths ?? []) };
    },
    async *list({ filters }, call) {
      const namespace = requireNamespace(call);
      const filter = compileStreamFilters(filters);
      const pages = listInMessages({
        countMax: recordsPerMessageMax,
        readPage: (afterDigest, countMax) => blobs.page(namespace, afterDigest, countMax),
        filter,
        fieldsOf: blobFields,
      });
      for (const page of pages) {
        yield new EncodedResponse(page);
      }
    },
    delete: async ({ digest }, call) => {
      await blobs.remove(requireNamespace(call), parseDigest(digest), leaseOf(call));
      return {};
    },
  } satisfies Pick<Handlers<typeof Content>, "info" | "update" | "list" | "delete">);
}

function requireDigest(digest: string): void {
  if (!isDigest(digest)) {
    throw new FlotillaError(ErrorKind.InvalidArgument, `${quote(digest)} failed validation`);
  }
}

/** @source containerd v2.3.4 core/content/adaptor.go `AdaptInfo` */
const blobFields = recordFields(InfoSchema, {
  digest: ({ digest }) => digest,
  labels: ({ labels }, path) => mapEntry(labels, path),
});
