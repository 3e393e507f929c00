import { ErrorKind, FlotillaError } from "./errors.ts";
import { quote } from "./quote.ts";

const unitPowers: Readonly<Record<string, number>> = { b: 0, k: 1, m: 2, g: 3, t: 4, p: 5 };

/**
 * Reads a size as people write it, such as `10GB`, `1.5 MiB` or `4096`, in bytes. All units are powers of 1024.
 *
 * @throws {@link FlotillaError} `unknown` with the words of Go's library.
 * @source github.com/docker/go-units v0.5 size.go `RAMInBytes`
 */
export function parseByteSize(text: string): number {
  const separator = text.search(/[0-9. ](?=[^0-9. ]*$)/);
  if (separator < 0) {
    throw new FlotillaError(ErrorKind.Unknown, `invalid size: '${text}'`);
  }
  const number = text[separator] === " " ? text.slice(0, separator) : text.slice(0, separator + 1);
  const unit = text.slice(separator + 1).toLowerCase();
  if (!/^[+-]?(?:\d+\.?\d*|\.\d+)$/.test(number)) {
    throw new FlotillaError(ErrorKind.Unknown, `strconv.ParseFloat: parsing ${quote(number)}: invalid syntax`);
  }
  const power = unit === "" ? 0 : /^(?:b|[kmgtp](?:b|ib)?)$/.test(unit) ? unitPowers[unit.charAt(0)] : undefined;
  if (power === undefined) {
    throw new FlotillaError(ErrorKind.Unknown, `invalid suffix: '${unit}'`);
  }
  const sizeBytes = Math.trunc(Number(number) * 1024 ** power);
  if (sizeBytes < 0 || !Number.isSafeInteger(sizeBytes)) {
    throw new FlotillaError(ErrorKind.Unknown, `invalid size: '${text}'`);
  }
  return sizeBytes;
}
