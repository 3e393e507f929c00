import { clone, create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { ErrorKind, failure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { timestampOf } from "#base/times.ts";
import { withoutEmptyLabels } from "#containerd/labels.ts";
import {
  type Image,
  ImageCreateSchema,
  ImageDeleteSchema,
  ImageSchema,
  ImageUpdateSchema,
} from "#gen/containerd/services/images/v1/images_pb.ts";
import { DescriptorSchema } from "#gen/containerd/types/descriptor_pb.ts";
import type { Statement } from "#sqlite/open.ts";
import { updateImage, validateImage } from "../domain/image.ts";
import { expireLabel, readReferenceFacts } from "../domain/reference-labels.ts";
import { type Resource, ResourceKind } from "../domain/resource.ts";
import type { LeaseStore } from "./leases.ts";
import { ListCache } from "./list-cache.ts";
import type { NamespaceStore } from "./namespaces.ts";
import type { Records } from "./records.ts";

/** What comes with a request to make or change an image. */
export interface ImageOptions {
  /** The lease of the call, which holds the image if that expires; "" for none. */
  readonly lease: string;
  /** Stands for the present where a client wants records that can be reproduced. */
  readonly sourceDateEpoch: Timestamp | undefined;
}

/**
 * Names of images and what they point at.
 *
 * @source containerd v2.3.4 core/metadata/images.go
 */
export class ImageStore {
  readonly #records: Records;
  readonly #namespaces: NamespaceStore;
  readonly #leases: LeaseStore;
  readonly #lists = new ListCache();
  readonly #find: Statement<[string, string], Uint8Array>;
  readonly #list: Statement<[string], Uint8Array>;
  readonly #put: Statement<[string, string, Uint8Array]>;
  readonly #remove: Statement<[string, string]>;

  constructor(records: Records, namespaces: NamespaceStore, leases: LeaseStore) {
    const { database } = records;
    this.#records = records;
    this.#namespaces = namespaces;
    this.#leases = leases;
    this.#find = database
      .prepare<[string, string], Uint8Array>("SELECT message FROM images WHERE namespace = ? AND name = ?")
      .pluck();
    this.#list = database
      .prepare<[string], Uint8Array>("SELECT message FROM images WHERE namespace = ? ORDER BY name")
      .pluck();
    this.#put = database.prepare(
      `INSERT INTO images (namespace, name, message) VALUES (?, ?, ?)
       ON CONFLICT (namespace, name) DO UPDATE SET message = excluded.message`,
    );
    this.#remove = database.prepare("DELETE FROM images WHERE namespace = ? AND name = ?");
  }

  /** The encoded record of an image. */
  get(namespace: string, name: string): Uint8Array {
    const message = this.#find.get(namespace, name);
    if (message === undefined) {
      throw failure(ErrorKind.NotFound, `image ${quote(name)}`);
    }
    return message;
  }

  /** The encoded records of a namespace by name. */
  list(namespace: string): Uint8Array[] {
    return this.#list.all(namespace);
  }

  /** The same as one message with the records in field 1. */
  encodedList(namespace: string): Uint8Array {
    return this.#lists.get(namespace, () => this.list(namespace));
  }

  create(namespace: string, wanted: Image, options: ImageOptions): Promise<Image> {
    return this.#records.write(() => {
      validateImage(wanted);
      this.#hold(namespace, wanted, options.lease);
      if (this.#find.get(namespace, wanted.name) !== undefined) {
        throw failure(ErrorKind.AlreadyExists, `image ${quote(wanted.name)}`);
      }
      this.#namespaces.ensure(namespace);
      const image = clone(ImageSchema, wanted);
      image.createdAt = this.#time(options);
      this.#store(namespace, image, image.createdAt);
      this.#records.outbox.add(namespace, "/images/create", ImageCreateSchema, {
        name: image.name,
        labels: image.labels,
      });
      return image;
    });
  }

  /** @param paths - Of the update mask; none replaces labels and target. */
  update(namespace: string, wanted: Image, paths: readonly string[], options: ImageOptions): Promise<Image> {
    return this.#records.write(() => {
      const image = fromBinary(ImageSchema, this.get(namespace, wanted.name));
      updateImage(image, wanted, paths);
      this.#hold(namespace, image, options.lease);
      this.#store(namespace, image, this.#time(options));
      this.#records.outbox.add(namespace, "/images/update", ImageUpdateSchema, {
        name: image.name,
        labels: image.labels,
      });
      return image;
    });
  }

  /** @param targetDigest - What the image must point at, or "" for anything. */
  remove(namespace: string, name: string, targetDigest: string, lease: string): Promise<void> {
    return this.#records.write((change) => {
      const image = fromBinary(ImageSchema, this.get(namespace, name));
      const digest = image.target?.digest ?? "";
      if (targetDigest !== "" && digest !== targetDigest) {
        throw failure(ErrorKind.NotFound, `image ${quote(name)} has target ${digest}, not ${targetDigest}`);
      }
      this.#leases.release(lease, resourceOf(namespace, name));
      this.collect(namespace, name);
      change.noteDeletion();
    });
  }

  /** Removes the record of an image and tells so, inside a change. */
  collect(namespace: string, name: string): void {
    this.#lists.drop(namespace);
    this.#remove.run(namespace, name);
    this.#records.graph.remove(resourceOf(namespace, name));
    this.#records.outbox.add(namespace, "/images/delete", ImageDeleteSchema, { name });
  }

  #hold(namespace: string, image: Image, lease: string): void {
    if (Object.hasOwn(image.labels, expireLabel)) {
      this.#leases.hold(lease, resourceOf(namespace, image.name));
    }
  }

  #time({ sourceDateEpoch }: ImageOptions): Timestamp {
    return sourceDateEpoch ?? timestampOf(this.#records.clock());
  }

  #store(namespace: string, image: Image, updatedAt: Timestamp): void {
    image.updatedAt = updatedAt;
    image.labels = withoutEmptyLabels(image.labels);
    image.target ??= create(DescriptorSchema);
    image.target.annotations = withoutEmptyLabels(image.target.annotations);
    this.#lists.drop(namespace);
    this.#put.run(namespace, image.name, toBinary(ImageSchema, image));
    this.#records.graph.put(
      resourceOf(namespace, image.name),
      readReferenceFacts(ResourceKind.Image, image.labels, [{ kind: ResourceKind.Content, key: image.target.digest }]),
    );
  }
}

function resourceOf(namespace: string, name: string): Resource {
  return { namespace, kind: ResourceKind.Image, key: name };
}
