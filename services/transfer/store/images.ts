import { type Client, createClient } from "@connectrpc/connect";
import { ErrorKind, failure, isFailure } from "#base/errors.ts";
import { parseDigest } from "#containerd/digest.ts";
import type { Labels } from "#containerd/labels.ts";
import { type Image, Images } from "#gen/containerd/services/images/v1/images_pb.ts";
import type { RpcConnection } from "#wire/client.ts";
import type { NamedImage } from "../domain/image-names.ts";
import type { Descriptor } from "../registry/ports.ts";
import { boundedCall, type Caller } from "./caller.ts";

/** How often an image that comes and goes while it is recorded is tried again. */
const attemptsMax = 10;

/** A record of an image. */
export interface StoredImage {
  readonly name: string;
  readonly labels: Labels;
  readonly target: Descriptor;
}

/** The images of one client. */
export class TransferImages {
  readonly #client: Client<typeof Images>;
  readonly #caller: Caller;

  constructor(metadata: RpcConnection, caller: Caller) {
    this.#client = createClient(Images, metadata.transport);
    this.#caller = caller;
  }

  /** @throws {@link FlotillaError} `not_found` */
  async get(name: string, signal: AbortSignal): Promise<StoredImage> {
    const { image } = await this.#client.get({ name }, boundedCall(this.#caller, signal));
    return storedImage(image);
  }

  /**
   * Records an image, in place of one of that name.
   *
   * @source containerd v2.3.4 core/transfer/image/imagestore.go `Store`
   */
  async put({ name, labels }: NamedImage, target: Descriptor, signal: AbortSignal): Promise<StoredImage> {
    const { mediaType, digest, size, annotations } = target;
    const image = {
      name,
      labels: { ...labels },
      target: { mediaType, digest, size: BigInt(size), annotations: { ...annotations } },
    };
    for (let attempt = 1; attempt <= attemptsMax; attempt += 1) {
      const created = await unless(ErrorKind.AlreadyExists, () =>
        this.#client.create({ image }, boundedCall(this.#caller, signal)),
      );
      const recorded =
        created ??
        (await unless(ErrorKind.NotFound, () => this.#client.update({ image }, boundedCall(this.#caller, signal))));
      if (recorded !== undefined) {
        return storedImage(recorded.image);
      }
    }
    throw failure(ErrorKind.Aborted, `image ${name} comes and goes`);
  }
}

function storedImage(image: Image | undefined): StoredImage {
  const { name = "", labels = {}, target } = image ?? {};
  const { mediaType = "", digest = "", size = 0n, annotations = {} } = target ?? {};
  return { name, labels, target: { mediaType, digest: parseDigest(digest), size: Number(size), annotations } };
}

async function unless<T>(kind: ErrorKind, call: () => Promise<T>): Promise<T | undefined> {
  try {
    return await call();
  } catch (error) {
    if (isFailure(error, kind)) {
      return undefined;
    }
    throw error;
  }
}
