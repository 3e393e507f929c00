import { ErrorKind, failure } from "#base/errors.ts";
import { identifierBytesMax } from "#base/limits.ts";
import { quote } from "#base/quote.ts";

const identifierPattern = /^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$/;

/**
 * Checks a name that containerd calls an identifier: namespaces, ids of containers, tasks, execs and
 * sandboxes, and each part of an event topic.
 *
 * @throws {@link FlotillaError} `invalid_argument` with containerd's text.
 * @source containerd v2.3.4 pkg/identifiers/validate.go `Validate`
 */
export function validateIdentifier(identifier: string): void {
  if (identifier.length === 0) {
    throw failure(ErrorKind.InvalidArgument, "identifier must not be empty");
  }
  if (Buffer.byteLength(identifier) > identifierBytesMax) {
    throw failure(
      ErrorKind.InvalidArgument,
      `identifier ${quote(identifier)} greater than maximum length (${identifierBytesMax} characters)`,
    );
  }
  if (!identifierPattern.test(identifier)) {
    throw failure(ErrorKind.InvalidArgument, `identifier ${quote(identifier)} must match ${identifierPattern.source}`);
  }
}
