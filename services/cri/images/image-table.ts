import { ErrorKind, FlotillaError, failure } from "#base/errors.ts";
import { type LocalImage, sortReferences } from "./local-image.ts";

/** One name of an image, with the image as its record says. */
export interface NamedImage extends Omit<LocalImage, "references"> {
  readonly reference: string;
}

interface Entry {
  readonly facts: Omit<LocalImage, "references" | "isPinned">;
  /** Names, and whether each pins the image. */
  readonly references: Map<string, boolean>;
  image: LocalImage;
}

/**
 * The images of this machine in memory, by id and by name: what the kubelet asks for all the time is answered without asking anybody.
 *
 * @source containerd v2.3.4 internal/cri/store/image/image.go
 */
export class ImageTable {
  readonly #entries = new Map<string, Entry>();
  readonly #idOfReference = new Map<string, string>();

  /** Notes what a name means now. */
  put({ reference, isPinned, ...facts }: NamedImage): void {
    const before = this.#idOfReference.get(reference);
    if (before !== undefined && before !== facts.id) {
      this.delete(reference);
    }
    this.#idOfReference.set(reference, facts.id);
    const entry = this.#entries.get(facts.id);
    const references = entry?.references ?? new Map<string, boolean>();
    references.set(reference, isPinned);
    this.#entries.set(facts.id, { facts, references, image: describe(facts, references) });
  }

  /** Notes that a name means nothing any more. An image without a name is gone. */
  delete(reference: string): void {
    const id = this.#idOfReference.get(reference);
    const entry = id === undefined ? undefined : this.#entries.get(id);
    this.#idOfReference.delete(reference);
    if (id === undefined || entry === undefined) {
      return;
    }
    entry.references.delete(reference);
    if (entry.references.size === 0) {
      this.#entries.delete(id);
    } else {
      entry.image = describe(entry.facts, entry.references);
    }
  }

  /** The id that a name means. */
  idOf(reference: string): string | undefined {
    return this.#idOfReference.get(reference);
  }

  /**
   * An image by its id, which may be cut short and come without its algorithm.
   *
   * @throws {@link FlotillaError} `not_found`; `unknown` when several begin so.
   * @source opencontainers/go-digest digestset/set.go `Lookup`
   */
  get(id: string): LocalImage {
    const exact = this.#entries.get(id);
    if (exact !== undefined) {
      return exact.image;
    }
    const colon = id.indexOf(":");
    const hex = id.slice(colon + 1);
    const found = [...this.#entries.keys()].filter((candidate) =>
      colon < 0 ? candidate.slice(candidate.indexOf(":") + 1).startsWith(hex) : candidate.startsWith(id),
    );
    const [first, ...more] = hex === "" ? [] : found;
    const entry = first === undefined ? undefined : this.#entries.get(first);
    if (entry === undefined) {
      throw failure(ErrorKind.NotFound, "not found");
    }
    if (more.length > 0) {
      throw new FlotillaError(ErrorKind.Unknown, "ambiguous digest string");
    }
    return entry.image;
  }

  /** All images, in no order. */
  all(): LocalImage[] {
    return Array.from(this.#entries.values(), ({ image }) => image);
  }

  /** All names. */
  references(): string[] {
    return [...this.#idOfReference.keys()];
  }
}

function describe(facts: Entry["facts"], references: ReadonlyMap<string, boolean>): LocalImage {
  return {
    ...facts,
    references: sortReferences([...references.keys()]),
    isPinned: [...references.values()].includes(true),
  };
}
