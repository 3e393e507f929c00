/** What one warning may say, and how many different ones one transfer passes on. */
const textCharactersMax = 1024;
const warningsMax = 16;

/**
 * Passes on what registries want users to know: each sentence once.
 *
 * @source distribution/distribution-spec v1.1 spec.md "Warnings": code 299, no agent, no date
 */
export class Warnings {
  readonly #told = new Set<string>();
  readonly #tell: (text: string) => void;

  constructor(tell: (text: string) => void) {
    this.#tell = tell;
  }

  /** @param values - Of the header `Warning`. */
  take(values: readonly string[]): void {
    for (const value of values) {
      for (const [, quoted = ""] of value.matchAll(/(?:^|,)\s*299 \S+ "((?:[^"\\]|\\.)*)"/g)) {
        const text = quoted
          .replace(/\\(.)/g, "$1")
          .replace(/\p{Cc}/gu, " ")
          .slice(0, textCharactersMax);
        if (text !== "" && !this.#told.has(text) && this.#told.size < warningsMax) {
          this.#told.add(text);
          this.#tell(text);
        }
      }
    }
  }
}
