import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { ImageSchema, Images } from "#gen/containerd/services/images/v1/images_pb.ts";
import { bindService, type Handlers, type ServiceBinding } from "#wire/handler.ts";
import { leaseOf, requireNamespace } from "#wire/headers.ts";
import type { Collector } from "../gc/schedule.ts";
import type { ImageStore } from "../store/images.ts";
import { encodedResponse } from "./encoded.ts";
import { listResponse } from "./filtered.ts";
import { mapEntry, recordFields, unlessEmpty } from "./record-fields.ts";

/** Answers the Images service. @source containerd v2.3.4 plugins/services/images/local.go */
export function imagesService(images: ImageStore, collector: Collector): ServiceBinding {
  return bindService(Images, {
    get: ({ name }, call) => encodedResponse([images.get(requireNamespace(call), name)]),
    list: ({ filters }, call) => listResponse(images.table, requireNamespace(call), filters, imageFields),
    create: async ({ image, sourceDateEpoch }, call) => {
      const wanted = requireNamed(image);
      const options = { lease: leaseOf(call), sourceDateEpoch };
      return encodedResponse([await images.create(requireNamespace(call), wanted, options)]);
    },
    update: async ({ image, updateMask, sourceDateEpoch }, call) => {
      const wanted = requireNamed(image);
      const options = { lease: leaseOf(call), sourceDateEpoch };
      return encodedResponse([await images.update(requireNamespace(call), wanted, updateMask?.paths ?? [], options)]);
    },
    delete: async ({ name, sync, target }, call) => {
      await images.remove(requireNamespace(call), name, target?.digest ?? "", leaseOf(call));
      if (sync) {
        await collector.collect(call.signal);
      }
      return {};
    },
  } satisfies Handlers<typeof Images>);
}

function requireNamed<T extends { readonly name: string }>(image: T | undefined): T {
  if (image === undefined || image.name === "") {
    throw new FlotillaError(ErrorKind.InvalidArgument, "Image.Name required");
  }
  return image;
}

/** @source containerd v2.3.4 core/metadata/adaptors.go `adaptImage` */
const imageFields = recordFields(ImageSchema, {
  name: ({ name }) => unlessEmpty(name),
  target: ({ target }, path) =>
    path[1] === "digest"
      ? unlessEmpty(target?.digest)
      : path[1] === "mediatype"
        ? unlessEmpty(target?.mediaType)
        : undefined,
  labels: ({ labels }, path) => mapEntry(labels, path),
  annotations: ({ target }, path) => mapEntry(target?.annotations ?? {}, path),
});
