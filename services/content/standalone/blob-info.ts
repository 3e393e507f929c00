import { stat } from "node:fs/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { ErrorKind, failure, systemErrorCode } from "#base/errors.ts";
import { type Digest, parseDigest } from "#containerd/digest.ts";
import { compileFilters } from "#containerd/filter.ts";
import { Content, type InfoSchema } from "#gen/containerd/services/content/v1/content_pb.ts";
import { bindService, type Handlers, type ServiceBinding } from "#wire/handler.ts";
import type { WriterParts } from "../domain/ingest-writer.ts";
import { removeBlobs } from "../domain/removal.ts";

/** Blobs in one message of a list. @source containerd v2.3.4 plugins/services/content/contentserver/contentserver.go `List` */
const blobsPerMessageMax = 100;

type Info = MessageInitShape<typeof InfoSchema>;

/**
 * The methods of Content that are about blobs as a whole, from the files alone. Labels are not kept.
 *
 * @source containerd v2.3.4 plugins/content/local/store.go
 */
export function blobInfoService(parts: WriterParts): ServiceBinding {
  const find = async (digest: Digest): Promise<Info | undefined> => {
    try {
      const { size, mtimeMs } = await stat(parts.blobs.path(digest));
      const time = timestampFromMs(Math.floor(mtimeMs));
      return { digest, size: BigInt(size), createdAt: time, updatedAt: time, labels: {} };
    } catch (error) {
      if (systemErrorCode(error) === "ENOENT") {
        return undefined;
      }
      throw error;
    }
  };
  const require = async (text: string): Promise<Info> => {
    const digest = parseDigest(text);
    const info = await find(digest);
    if (info === undefined) {
      throw failure(ErrorKind.NotFound, `content ${digest}`);
    }
    return info;
  };
  const handlers = {
    info: async ({ digest }) => ({ info: await require(digest) }),
    update: () => {
      throw failure(ErrorKind.FailedPrecondition, "update not supported on immutable content store");
    },
    async *list({ filters }) {
      const matches = compileFilters(filters);
      let info: Info[] = [];
      for (const digest of await parts.blobs.list()) {
        const found = matches(([field]) => (field === "digest" ? digest : undefined)) ? await find(digest) : undefined;
        if (found !== undefined) {
          info.push(found);
        }
        if (info.length === blobsPerMessageMax) {
          yield { info };
          info = [];
        }
      }
      if (info.length > 0) {
        yield { info };
      }
    },
    delete: async ({ digest }) => {
      await require(digest);
      const { failures } = await removeBlobs(parts, [parseDigest(digest)]);
      if (failures[0] !== undefined) {
        throw failures[0].error;
      }
      return {};
    },
  } satisfies Pick<Handlers<typeof Content>, "info" | "update" | "list" | "delete">;
  return bindService(Content, handlers);
}
