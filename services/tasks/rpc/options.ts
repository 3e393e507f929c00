import { type DescMessage, fromBinary, type MessageShape } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import { ErrorKind, FlotillaError } from "#base/errors.ts";

/**
 * Takes a message of one type out of an Any.
 *
 * @param mismatch - Text of the error for a message of another known type.
 * @throws {@link FlotillaError} `unknown`, as containerd does not map these errors.
 * @source containerd/typeurl v2 types.go `UnmarshalAny`; containerd v2.3.4 plugins/services/tasks/local.go `formatOptions`
 */
export async function unpackOptions<D extends DescMessage>(
  schema: D,
  { typeUrl, value }: Any,
  mismatch: string,
): Promise<MessageShape<D>> {
  const name = typeUrl.slice(typeUrl.lastIndexOf("/") + 1);
  if (name !== schema.typeName) {
    // Loaded for this error alone, since it holds the messages of half the API.
    const { typeRegistry } = await import("#wire/connect/type-registry.ts");
    const isKnown = typeRegistry.getMessage(name) !== undefined;
    throw new FlotillaError(ErrorKind.Unknown, isKnown ? mismatch : `type with url ${typeUrl}: not found`);
  }
  try {
    return fromBinary(schema, value);
  } catch (error) {
    throw new FlotillaError(ErrorKind.Unknown, `failed to unmarshal type ${typeUrl}: ${String(error)}`, {
      cause: error,
    });
  }
}
