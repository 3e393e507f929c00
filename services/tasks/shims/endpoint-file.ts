import { renameSync, writeFileSync } from "node:fs";
import { readFileIfThere } from "#base/durable-file.ts";
import { formatEndpoint, parseStartReply, type ShimEndpoint } from "./bootstrap.ts";
import type { Bundle } from "./bundles.ts";

const endpointFileName = "bootstrap.json";
const legacyAddressFileName = "address";

/**
 * Reads where the shim of a bundle listens, also in the form of containerd before 1.7.
 *
 * @returns undefined when nothing is written down.
 * @throws The system's error when it can't be read, which says nothing of the shim; {@link FlotillaError} when it makes no sense.
 */
export async function readEndpoint({ path }: Pick<Bundle, "path">): Promise<ShimEndpoint | undefined> {
  const recorded = await readFileIfThere(`${path}/${endpointFileName}`);
  const reply = recorded ?? (await readFileIfThere(`${path}/${legacyAddressFileName}`));
  return reply === undefined ? undefined : parseStartReply(Buffer.from(reply));
}

/** Writes where the shim listens, in one step. */
export function writeEndpoint({ path }: Pick<Bundle, "path">, endpoint: ShimEndpoint): void {
  const target = `${path}/${endpointFileName}`;
  writeFileSync(`${target}.new`, formatEndpoint(endpoint), { mode: 0o644 });
  renameSync(`${target}.new`, target);
}
