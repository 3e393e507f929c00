import { ErrorKind, failure } from "#base/errors.ts";
import type { Container as RecordedContainer } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import { type CriPeers, criCall } from "../peers.ts";
import { specTypeUrl } from "./create.ts";
import { formatExactJson, parseExactJson } from "./spec/exact-json.ts";
import type { OciSpec } from "./spec/oci-spec.ts";

/** The record of a container. @throws {@link FlotillaError} `not_found`. */
export async function getRecord({ containers }: Pick<CriPeers, "containers">, id: string): Promise<RecordedContainer> {
  const { container } = await containers.get({ id }, criCall());
  if (container === undefined) {
    throw failure(ErrorKind.NotFound, `container ${JSON.stringify(id)}`);
  }
  return container;
}

/** The specification on a record. */
export function specOf({ spec }: RecordedContainer): OciSpec {
  return parseExactJson(Buffer.from(spec?.value ?? []).toString("utf8") || "{}") as OciSpec;
}

/** Replaces the specification on a record. */
export async function replaceSpec(
  { containers }: Pick<CriPeers, "containers">,
  id: string,
  spec: OciSpec,
): Promise<void> {
  await containers.update(
    {
      container: { id, spec: { typeUrl: specTypeUrl, value: new Uint8Array(Buffer.from(formatExactJson(spec))) } },
      updateMask: { paths: ["spec"] },
    },
    criCall(),
  );
}
