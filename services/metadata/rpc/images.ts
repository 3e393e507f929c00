import { fromBinary } from "@bufbuild/protobuf";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import type { FieldSource } from "#containerd/filter.ts";
import { ImageSchema, Images } from "#gen/containerd/services/images/v1/images_pb.ts";
import { bindService, type Handlers, type ServiceBinding } from "#wire/handler.ts";
import { leaseOf, requireNamespace } from "#wire/headers.ts";
import type { Collector } from "../gc/schedule.ts";
import type { ImageStore } from "../store/images.ts";
import { encodedResponse } from "./encoded.ts";
import { compileListFilters, listResponse, mapEntry, unlessEmpty } from "./filtered.ts";

/** Answers the Images service. @source containerd v2.3.4 plugins/services/images/local.go */
export function imagesService(images: ImageStore, collector: Collector): ServiceBinding {
  return bindService(Images, {
    get: ({ name }, call) => encodedResponse([images.get(requireNamespace(call), name)]),
    list: ({ filters }, call) => listResponse(images, requireNamespace(call), compileListFilters(filters), imageFields),
    create: async ({ image, sourceDateEpoch }, call) => {
      const wanted = requireNamed(image);
      return {
        image: await images.create(requireNamespace(call), wanted, { lease: leaseOf(call), sourceDateEpoch }),
      };
    },
    update: async ({ image, updateMask, sourceDateEpoch }, call) => {
      const wanted = requireNamed(image);
      const options = { lease: leaseOf(call), sourceDateEpoch };
      return { image: await images.update(requireNamespace(call), wanted, updateMask?.paths ?? [], options) };
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
function imageFields(record: Uint8Array): FieldSource {
  const image = fromBinary(ImageSchema, record);
  return (path) => {
    switch (path[0]) {
      case "name":
        return unlessEmpty(image.name);
      case "target":
        return path[1] === "digest"
          ? unlessEmpty(image.target?.digest)
          : path[1] === "mediatype"
            ? unlessEmpty(image.target?.mediaType)
            : undefined;
      case "labels":
        return mapEntry(image.labels, path);
      case "annotations":
        return mapEntry(image.target?.annotations ?? {}, path);
      default:
        return undefined;
    }
  };
}
