import { encodeRecords } from "#wire/encoded-records.ts";
import { EncodedResponse } from "#wire/handler.ts";

/**
 * Things as lists show them, encoded: each is encoded again when it has changed, and a list is a concatenation.
 *
 * A form is kept as long as its thing is.
 */
export class ListedForms<T extends object> {
  readonly #encode: (item: T) => Uint8Array;
  readonly #stateOf: (item: T) => unknown;
  readonly #forms = new WeakMap<T, { readonly state: unknown; readonly bytes: Uint8Array }>();
  /** The last list, which is the next one as well when nothing has changed. */
  #last: { readonly forms: readonly Uint8Array[]; readonly answer: EncodedResponse } | undefined;

  /**
   * @param encode - Makes the form of a thing.
   * @param stateOf - What of a thing changes its form while it is there; compared by `===`.
   */
  constructor(encode: (item: T) => Uint8Array, stateOf: (item: T) => unknown = () => undefined) {
    this.#encode = encode;
    this.#stateOf = stateOf;
  }

  /** A thing as lists show it. */
  of(item: T): Uint8Array {
    const state = this.#stateOf(item);
    const known = this.#forms.get(item);
    if (known !== undefined && known.state === state) {
      return known.bytes;
    }
    const bytes = this.#encode(item);
    this.#forms.set(item, { state, bytes });
    return bytes;
  }

  /** An answer that holds things in field 1, as all lists of the kubelet's API do. */
  list(items: readonly T[]): EncodedResponse {
    const forms = items.map((item) => this.of(item));
    const last = this.#last;
    if (last?.forms.length === forms.length && forms.every((form, index) => form === last.forms[index])) {
      return last.answer;
    }
    const answer = new EncodedResponse(encodeRecords(forms));
    this.#last = { forms, answer };
    return answer;
  }

  /** The same in pieces of at most `lengthMax` things. */
  *pieces(items: readonly T[], lengthMax: number): Generator<EncodedResponse> {
    for (let start = 0; start < items.length; start += lengthMax) {
      yield this.list(items.slice(start, start + lengthMax));
    }
  }
}
