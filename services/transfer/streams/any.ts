import {
  create,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { ErrorKind, FlotillaError, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";

/** A message with its type, as it travels on a stream. The type is the bare full name of the message. */
export interface TypedMessage {
  readonly typeUrl: string;
  readonly value: Uint8Array;
}

/** Wraps a message as containerd does: its type without a host before it. @source containerd/typeurl v2 types.go `TypeURL` */
export function packMessage<D extends DescMessage>(schema: D, message: MessageInitShape<D>): TypedMessage {
  return { typeUrl: schema.typeName, value: toBinary(schema, create(schema, message)) };
}

/** What comes before the bytes of a message when it is wrapped and encoded. @param sizeBytes - Of the message. */
export function anyHead(schema: DescMessage, sizeBytes: number): Uint8Array {
  return new BinaryWriter()
    .tag(AnySchema.field.typeUrl.number, WireType.LengthDelimited)
    .string(schema.typeName)
    .tag(AnySchema.field.value.number, WireType.LengthDelimited)
    .uint32(sizeBytes)
    .finish();
}

/** The full name of the message that a type URL stands for. */
export function typeNameOf(typeUrl: string): string {
  return typeUrl.slice(typeUrl.lastIndexOf("/") + 1);
}

/**
 * Takes a message of the given type out.
 *
 * @throws {@link FlotillaError} `unknown`, in containerd's words, when it is of another type or no message at all.
 * @source containerd/typeurl v2 types.go `UnmarshalTo`
 */
export function unpackMessage<D extends DescMessage>(schema: D, { typeUrl, value }: TypedMessage): MessageShape<D> {
  if (typeNameOf(typeUrl) !== schema.typeName) {
    throw new FlotillaError(
      ErrorKind.Unknown,
      `can't unmarshal type ${quote(typeUrl)} to output ${quote(schema.typeName)}`,
    );
  }
  try {
    return fromBinary(schema, value);
  } catch (error) {
    throw wrapFailure(error, "proto: cannot parse invalid wire-format data");
  }
}
