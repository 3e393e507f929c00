import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { quote } from "#base/quote.ts";

/** Names that are taken, each by one id: the kubelet asks again for what it has asked for already, and must not get it twice. */
export class NameTable {
  readonly #ids = new Map<string, string>();
  readonly #names = new Map<string, string>();

  /**
   * Takes a name for an id; harmless when the id has it.
   *
   * @throws {@link FlotillaError} `unknown` with containerd's text when the name or the id is taken.
   * @source containerd v2.3.4 internal/registrar/registrar.go `Reserve`
   */
  reserve(name: string, id: string): void {
    const holder = this.#ids.get(name);
    if (holder !== undefined && holder !== id) {
      throw reserved("name", name, holder);
    }
    const held = this.#names.get(id);
    if (held !== undefined && held !== name) {
      throw reserved("key", id, held);
    }
    this.#ids.set(name, id);
    this.#names.set(id, name);
  }

  /** Gives back the name of an id, if it has one. */
  release(id: string): void {
    const name = this.#names.get(id);
    if (name !== undefined) {
      this.#names.delete(id);
      this.#ids.delete(name);
    }
  }
}

function reserved(field: string, value: string, holder: string): FlotillaError {
  return new FlotillaError(ErrorKind.Unknown, `${field} ${quote(value)} is reserved for ${quote(holder)}`);
}
