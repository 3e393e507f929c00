import { createHash, type Hash } from "node:crypto";
import { ErrorKind, FlotillaError } from "#base/errors.ts";

/** A digest that has been checked: algorithm, colon, lower-case hex. Made by {@link parseDigest} alone. */
export type Digest = string & { readonly __brand: "Digest" };

/** The algorithms that containerd computes, by the name that both digests and node:crypto use. */
export type DigestAlgorithm = "sha256" | "sha384" | "sha512";

/** The algorithm of everything that names none. @source opencontainers/go-digest v1.0 algorithm.go `Canonical` */
export const canonicalAlgorithm: DigestAlgorithm = "sha256";

const encodedPatterns: Readonly<Record<DigestAlgorithm, RegExp>> = {
  sha256: /^[a-f0-9]{64}$/,
  sha384: /^[a-f0-9]{96}$/,
  sha512: /^[a-f0-9]{128}$/,
};

const encodedLengths: Readonly<Record<DigestAlgorithm, number>> = { sha256: 64, sha384: 96, sha512: 128 };

const anyDigestPattern = /^[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[a-zA-Z0-9=_-]+$/;

/**
 * Tells what is wrong with a digest, in go-digest's words, or undefined when it is right.
 *
 * @source opencontainers/go-digest v1.0 digest.go `Digest.Validate`, algorithm.go `Algorithm.Validate`
 */
export function findDigestFault(text: string): string | undefined {
  const separator = text.indexOf(":");
  if (separator <= 0 || separator + 1 === text.length) {
    return "invalid checksum digest format";
  }
  const algorithm = text.slice(0, separator);
  const encoded = text.slice(separator + 1);
  if (!isAlgorithm(algorithm)) {
    return anyDigestPattern.test(text) ? "unsupported digest algorithm" : "invalid checksum digest format";
  }
  if (encoded.length !== encodedLengths[algorithm]) {
    return "invalid checksum digest length";
  }
  return encodedPatterns[algorithm].test(encoded) ? undefined : "invalid checksum digest format";
}

/** Tells whether a text is a digest of an algorithm that can be computed. */
export function isDigest(text: string): text is Digest {
  return findDigestFault(text) === undefined;
}

/**
 * Checks a digest.
 *
 * @throws {@link FlotillaError} `invalid_argument` with go-digest's text alone, as Content.Delete sends it; callers
 *   that have other words use {@link findDigestFault}.
 */
export function parseDigest(text: string): Digest {
  const fault = findDigestFault(text);
  if (fault !== undefined) {
    throw new FlotillaError(ErrorKind.InvalidArgument, fault);
  }
  return text as Digest;
}

/** The two halves of a digest, as they lie on disk: `blobs/<algorithm>/<encoded>`. */
export function splitDigest(digest: Digest): { readonly algorithm: DigestAlgorithm; readonly encoded: string } {
  const separator = digest.indexOf(":");
  return { algorithm: digest.slice(0, separator) as DigestAlgorithm, encoded: digest.slice(separator + 1) };
}

/** The digest of some bytes. */
export function digestOf(bytes: Uint8Array | string, algorithm = canonicalAlgorithm): Digest {
  return digestOfHash(createHash(algorithm).update(bytes), algorithm);
}

/**
 * The digest that a hash has come to so far. The hash stays usable.
 *
 * @param algorithm - What the hash was created with; a Hash does not tell.
 */
export function digestOfHash(hash: Hash, algorithm = canonicalAlgorithm): Digest {
  return `${algorithm}:${hash.copy().digest("hex")}` as Digest;
}

function isAlgorithm(name: string): name is DigestAlgorithm {
  return Object.hasOwn(encodedPatterns, name);
}
