import { isDigest } from "#containerd/digest.ts";
import { parseImageReference } from "#containerd/image-reference.ts";
import type { ImageConfig } from "../containers/spec/container-spec.ts";

/** An image that is here, for this machine's platform. */
export interface LocalImage {
  /** Digest of its configuration. */
  readonly id: string;
  /** Names of its records, those first that say most. */
  readonly references: readonly string[];
  /** The topmost of its snapshots; "" for an image without layers. */
  readonly chainId: string;
  /** Of all that its manifest refers to, as it was sent. */
  readonly sizeBytes: bigint;
  readonly config: ImageConfig;
  /** Its configuration as it was written. */
  readonly document: Readonly<Record<string, unknown>>;
  /** Whether it is never to be collected. */
  readonly isPinned: boolean;
}

/**
 * Parts the names of an image into tags and digests. Its id, and what is no name, is neither.
 *
 * @source containerd v2.3.4 internal/cri/util/references.go `ParseImageReferences`
 */
export function partReferences(references: readonly string[]): { readonly tags: string[]; readonly digests: string[] } {
  const tags: string[] = [];
  const digests: string[] = [];
  for (const reference of references) {
    const parsed = tryParse(reference);
    if (parsed === undefined) {
      continue;
    }
    if (parsed.digest !== "") {
      digests.push(parsed.text);
    } else if (parsed.tag !== "") {
      tags.push(parsed.text);
    }
  }
  return { tags, digests };
}

/** Sorts the names of an image: what says most first, then by the alphabet. @source distribution/reference v0.6 sort.go `Sort` */
export function sortReferences(references: readonly string[]): string[] {
  return references.toSorted((one, other) => rankOf(one) - rankOf(other) || (one < other ? -1 : one > other ? 1 : 0));
}

function rankOf(reference: string): number {
  const parsed = tryParse(reference);
  if (parsed === undefined) {
    return isDigest(reference) ? 4 : 5;
  }
  return parsed.tag === "" ? (parsed.digest === "" ? 3 : 2) : parsed.digest === "" ? 1 : 0;
}

function tryParse(reference: string) {
  if (isDigest(reference)) {
    return undefined;
  }
  try {
    const { domain, path, tag, digest } = parseImageReference(reference);
    return { tag, digest, text: `${domain}/${path}${tag === "" ? "" : `:${tag}`}${digest === "" ? "" : `@${digest}`}` };
  } catch {
    return undefined;
  }
}

/**
 * The user that an image's processes are of: a number or a name.
 *
 * @source containerd v2.3.4 internal/cri/server/images/image_status.go `getUserFromImage`
 */
export function imageUser(user: string): { readonly uid: bigint | undefined; readonly username: string } {
  const [name = ""] = user.split(":");
  return /^[+-]?\d{1,18}$/.test(name)
    ? { uid: BigInt(name.replace("+", "")), username: "" }
    : { uid: undefined, username: name };
}
