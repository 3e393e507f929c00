import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { checkFragments, type Fragment } from "./sparse-map.ts";
import type { TarMember } from "./tar-format.ts";
import type { TarSink } from "./tar-sink.ts";

/** Puts the stored parts of a sparse file where they belong, with holes between them. */
export class SparseContent {
  readonly #sink: Pick<TarSink, "content" | "hole">;
  readonly #fragments: readonly Fragment[];
  readonly #sizeBytes: number;
  #index = 0;
  /** Of the present fragment. */
  #filled = 0;
  #position = 0;

  /** @throws {@link FlotillaError} when the map does not fit the file or what is stored of it. @source Go archive/tar reader.go `validateSparseEntries` */
  constructor(
    sink: Pick<TarSink, "content" | "hole">,
    fragments: readonly Fragment[],
    member: Pick<TarMember, "sizeBytes">,
    storedBytes: number,
  ) {
    checkFragments(fragments, member.sizeBytes);
    const mappedBytes = fragments.reduce((sum, fragment) => sum + fragment.length, 0);
    if (mappedBytes !== storedBytes) {
      const fault = mappedBytes > storedBytes ? "references non-existent data" : "contains unreferenced data";
      throw new FlotillaError(ErrorKind.Unknown, `archive/tar: sparse file ${fault}`);
    }
    this.#sink = sink;
    this.#fragments = fragments;
    this.#sizeBytes = member.sizeBytes;
  }

  /** Takes the next of what is stored. */
  content(data: Buffer): void {
    let offset = 0;
    while (offset < data.length) {
      const fragment = this.#fragments[this.#index];
      if (fragment === undefined) {
        throw new TypeError("content goes on after the last fragment");
      }
      this.#skipTo(fragment.offset + this.#filled);
      const length = Math.min(fragment.length - this.#filled, data.length - offset);
      if (length > 0) {
        this.#sink.content(data.subarray(offset, offset + length));
      }
      offset += length;
      this.#position += length;
      this.#filled += length;
      if (this.#filled === fragment.length) {
        this.#index += 1;
        this.#filled = 0;
      }
    }
  }

  /** What comes after the last part is a hole. */
  finish(): void {
    this.#skipTo(this.#sizeBytes);
  }

  #skipTo(position: number): void {
    if (position > this.#position) {
      this.#sink.hole(position - this.#position);
      this.#position = position;
    }
  }
}
