import { create } from "@bufbuild/protobuf";
import { type Any, AnySchema } from "@bufbuild/protobuf/wkt";
import { ErrorKind, failure } from "#base/errors.ts";
import { formatExactJson, parseExactJson } from "../containers/spec/exact-json.ts";

/** @source containerd v2.3.4 internal/cri/store/container/metadata.go, internal/cri/store/sandbox/metadata.go `metadataVersion` */
const metadataVersion = "v1";

/** Metadata of a pod or a container with its version around it. */
export function versioned(metadata: unknown): Record<string, unknown> {
  return { Version: metadataVersion, Metadata: metadata };
}

/** Packs metadata of a pod or a container as containerd does: JSON, with its version around it. */
export function encodeVersioned(typeUrl: string, metadata: unknown): Any {
  const text = formatExactJson(versioned(metadata));
  return create(AnySchema, { typeUrl, value: new Uint8Array(Buffer.from(text)) });
}

/**
 * Reads such metadata, whoever of us and containerd wrote it.
 *
 * @throws {@link FlotillaError} `invalid_argument` when it is of another version or no metadata.
 */
export function decodeVersioned({ value }: Pick<Any, "value">): Record<string, unknown> {
  const { Version: version, Metadata: written } = parseExactJson(Buffer.from(value).toString("utf8")) as {
    Version?: unknown;
    Metadata?: Record<string, unknown>;
  };
  if (version !== metadataVersion || written === undefined) {
    throw failure(ErrorKind.InvalidArgument, `unsupported version: ${JSON.stringify(version ?? "")}`);
  }
  return written;
}
