import { create } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { ErrorKind, type FlotillaError, failure } from "#base/errors.ts";
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
import { updateImage, validateImage } from "../domain/image.ts";
import { expireLabel } from "../domain/reference-labels.ts";
import { ResourceKind } from "../domain/resource.ts";
import type { LeaseStore } from "./leases.ts";
import type { NamespaceStore } from "./namespaces.ts";
import { RecordTable } from "./record-table.ts";
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
  readonly table: RecordTable<typeof ImageSchema>;
  readonly #records: Records;
  readonly #namespaces: NamespaceStore;
  readonly #leases: LeaseStore;

  constructor(records: Records, namespaces: NamespaceStore, leases: LeaseStore) {
    this.#records = records;
    this.#namespaces = namespaces;
    this.#leases = leases;
    this.table = new RecordTable(records, {
      table: "images",
      nameColumn: "name",
      schema: ImageSchema,
      resource: ResourceKind.Image,
    });
  }

  /** The encoded record of an image. */
  get(namespace: string, name: string): Uint8Array {
    return this.table.get(namespace, name, () => imageNotFound(name));
  }

  /** @returns The encoded record. */
  create(namespace: string, wanted: Image, options: ImageOptions): Promise<Uint8Array> {
    return this.#records.write(() => {
      validateImage(wanted);
      this.#hold(namespace, wanted, options.lease);
      if (this.table.has(namespace, wanted.name)) {
        throw failure(ErrorKind.AlreadyExists, `image ${quote(wanted.name)}`);
      }
      this.#namespaces.ensure(namespace);
      const createdAt = this.#time(options);
      const { image, encoded } = this.#store(namespace, { ...wanted, createdAt, updatedAt: createdAt });
      this.#records.outbox.add(namespace, "/images/create", ImageCreateSchema, image);
      return encoded;
    });
  }

  /**
   * @param paths - Of the update mask; none replaces labels and target.
   * @returns The encoded record.
   */
  update(namespace: string, wanted: Image, paths: readonly string[], options: ImageOptions): Promise<Uint8Array> {
    return this.#records.write(() => {
      const stored = this.table.read(namespace, wanted.name, () => imageNotFound(wanted.name));
      updateImage(stored, wanted, paths);
      this.#hold(namespace, stored, options.lease);
      const { image, encoded } = this.#store(namespace, { ...stored, updatedAt: this.#time(options) });
      this.#records.outbox.add(namespace, "/images/update", ImageUpdateSchema, image);
      return encoded;
    });
  }

  /** @param targetDigest - What the image must point at, or "" for anything. */
  remove(namespace: string, name: string, targetDigest: string, lease: string): Promise<void> {
    return this.#records.write((change) => {
      const { target } = this.table.read(namespace, name, () => imageNotFound(name));
      const digest = target?.digest ?? "";
      if (targetDigest !== "" && digest !== targetDigest) {
        throw failure(ErrorKind.NotFound, `image ${quote(name)} has target ${digest}, not ${targetDigest}`);
      }
      this.#leases.release(lease, this.table.resource(namespace, name));
      this.collect(namespace, name);
      change.noteDeletion();
    });
  }

  /** Removes the record of an image and tells so, inside a change. */
  collect(namespace: string, name: string): void {
    this.table.remove(namespace, name);
    this.#records.outbox.add(namespace, "/images/delete", ImageDeleteSchema, { name });
  }

  #hold(namespace: string, image: Image, lease: string): void {
    if (Object.hasOwn(image.labels, expireLabel)) {
      this.#leases.hold(lease, this.table.resource(namespace, image.name));
    }
  }

  #time({ sourceDateEpoch }: ImageOptions): Timestamp {
    return sourceDateEpoch ?? timestampOf(this.#records.clock());
  }

  /** @returns Besides the encoded record what the event tells of it. */
  #store(
    namespace: string,
    wanted: Image,
  ): {
    readonly image: { readonly name: string; readonly labels: Record<string, string> };
    readonly encoded: Uint8Array;
  } {
    const { name } = wanted;
    const labels = withoutEmptyLabels(wanted.labels);
    const given = wanted.target ?? create(DescriptorSchema);
    const target = { ...given, annotations: withoutEmptyLabels(given.annotations) };
    const held = { kind: ResourceKind.Content, key: target.digest };
    return { image: { name, labels }, encoded: this.table.put(namespace, name, { ...wanted, labels, target }, [held]) };
  }
}

function imageNotFound(name: string): FlotillaError {
  return failure(ErrorKind.NotFound, `image ${quote(name)}`);
}
