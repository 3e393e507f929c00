import { create, toBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import type { ChainLayer } from "./order.ts";

/** @source containerd/imgcrypt v2 payload.go `PayloadURI`, `PayloadToolIDs` */
const payloadTypeUrl = "io.containerd.ocicrypt.v1.Payload";
const decoders = ["io.containerd.ocicrypt.decoder.v1.tar", "io.containerd.ocicrypt.decoder.v1.tar.gzip"];

/**
 * What programs that decrypt layers are told of one: its descriptor, with its keys as they were wrapped for those who may read it. How they unwrap them is
 * in their own arguments.
 *
 * @returns Encoded `google.protobuf.Any` messages, by the names of the programs.
 * @source containerd/imgcrypt v2 images/encryption/client.go `WithDecryptedUnpack`
 */
export function decryptionPayloads({
  mediaType,
  digest,
  sizeBytes,
  annotations,
}: Pick<ChainLayer, "mediaType" | "digest" | "sizeBytes" | "annotations">): ReadonlyMap<string, Uint8Array> {
  const document = {
    DecryptConfig: { Parameters: null },
    Descriptor: {
      mediaType,
      digest,
      size: sizeBytes,
      ...(Object.keys(annotations).length === 0 ? {} : { annotations }),
    },
  };
  const value = new Uint8Array(Buffer.from(JSON.stringify(document)));
  const payload = toBinary(AnySchema, create(AnySchema, { typeUrl: payloadTypeUrl, value }));
  return new Map(decoders.map((id) => [id, payload]));
}
