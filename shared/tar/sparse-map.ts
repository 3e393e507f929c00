import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { asByteString } from "#linux/bytes.ts";
import { type PaxRecords, parseDecimal, sparseMapKey } from "./pax.ts";
import { specialBytesMax } from "./tar-format.ts";
import { invalidHeader, type RawHeader } from "./tar-header.ts";

/** A stretch of a sparse file that has data. */
export interface Fragment {
  readonly offset: number;
  readonly length: number;
}

/**
 * Which sparse format pax records announce: `records` when the map is among them (formats 0.0 and 0.1), `content` when it comes
 * before the content (format 1.0).
 *
 * @source GNU tar manual, "Storing Sparse Files"; Go archive/tar reader.go `readGNUSparsePAXHeaders`
 */
export function findSparseFormat(records: PaxRecords): "records" | "content" | undefined {
  const major = records.get("GNU.sparse.major") ?? "";
  const minor = records.get("GNU.sparse.minor") ?? "";
  if (major === "1" && minor === "0") {
    return "content";
  }
  if (
    (major === "0" && (minor === "0" || minor === "1")) ||
    (major === "" && minor === "" && records.has(sparseMapKey))
  ) {
    return "records";
  }
  return undefined;
}

/** Gives a sparse file its real name and size. */
export function mergeSparseRecords(header: RawHeader, records: PaxRecords): void {
  const name = records.get("GNU.sparse.name") ?? "";
  const size = records.get("GNU.sparse.size") ?? records.get("GNU.sparse.realsize") ?? "";
  if (name !== "") {
    header.name = asByteString(name);
  }
  if (size !== "") {
    header.sizeBytes = parseDecimal(size);
  }
}

/** The map of formats 0.0 and 0.1: offsets and lengths in turn, with commas. */
export function parseRecordMap(records: PaxRecords): Fragment[] {
  const map = records.get(sparseMapKey) ?? "";
  const count = parseDecimal(records.get("GNU.sparse.numblocks") ?? "0");
  const numbers = map === "" ? [] : map.split(",");
  if (numbers.length !== count * 2) {
    throw invalidHeader();
  }
  return pair(numbers);
}

/**
 * Collects the map of format 1.0, which stands in front of the content: the number of fragments, then their offsets and lengths,
 * each on a line, filled up to a whole block.
 */
export class ContentMapCollector {
  #text = "";
  #lineCount = 0;
  #linesNeeded = 1;

  /**
   * Takes the next block.
   *
   * @returns The map once it is complete, undefined before.
   * @throws {@link FlotillaError} for what is no map, or one of more than 1 MiB.
   */
  add(block: Buffer): Fragment[] | undefined {
    this.#text += block.toString("latin1");
    if (this.#text.length > specialBytesMax) {
      throw new FlotillaError(ErrorKind.Unknown, "archive/tar: sparse map too long");
    }
    for (let at = block.indexOf(0x0a); at !== -1; at = block.indexOf(0x0a, at + 1)) {
      this.#lineCount += 1;
    }
    if (this.#lineCount > 0 && this.#linesNeeded === 1) {
      const count = parseDecimal(this.#text.slice(0, this.#text.indexOf("\n")));
      if (count < 0) {
        throw invalidHeader();
      }
      this.#linesNeeded = 1 + count * 2;
    }
    return this.#lineCount < this.#linesNeeded ? undefined : pair(this.#text.split("\n").slice(1, this.#linesNeeded));
  }
}

function pair(numbers: readonly string[]): Fragment[] {
  const fragments: Fragment[] = [];
  for (let index = 0; index + 1 < numbers.length; index += 2) {
    fragments.push({ offset: parseDecimal(numbers[index] ?? ""), length: parseDecimal(numbers[index + 1] ?? "") });
  }
  return fragments;
}

/**
 * Checks that fragments are in order, do not overlap and lie within the file.
 *
 * @throws {@link FlotillaError}
 * @source Go archive/tar common.go `validateSparseEntries`
 */
export function checkFragments(fragments: readonly Fragment[], sizeBytes: number): void {
  let end = 0;
  for (const { offset, length } of fragments) {
    if (offset < end || length < 0 || offset + length > sizeBytes) {
      throw invalidHeader();
    }
    end = offset + length;
  }
  if (sizeBytes < 0) {
    throw invalidHeader();
  }
}
