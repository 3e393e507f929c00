import { ErrorKind, failure } from "#base/errors.ts";
import type { ChainLayer } from "./order.ts";

/** What a caller has said about the bytes of the layers of a chain. */
export class LayerBytes {
  readonly #gates: { readonly gate: PromiseWithResolvers<void>; isComplete: boolean; readonly digest: string }[];

  /** @param layers - Digest of each layer, and whether its bytes are there from the start. */
  constructor(layers: readonly { readonly digest: string; readonly isComplete: boolean }[]) {
    this.#gates = layers.map(({ digest, isComplete }) => {
      const gate = Promise.withResolvers<void>();
      // A layer that turns out to be present is not waited for, so nobody may be there to hear that its bytes do not come.
      gate.promise.catch(() => undefined);
      if (isComplete) {
        gate.resolve();
      }
      return { gate, isComplete, digest };
    });
  }

  /** What unpacking waits for. */
  of(index: number): Pick<ChainLayer, "bytes" | "isComplete"> {
    const entry = this.#gates[index];
    if (entry === undefined) {
      throw new RangeError(`there is no layer ${index}`);
    }
    return { bytes: entry.gate.promise, isComplete: () => entry.isComplete };
  }

  /** The bytes of a layer are there. @throws {@link FlotillaError} `invalid_argument` when there is no such layer. */
  complete(index: number): void {
    const entry = this.#gates[index];
    if (entry === undefined) {
      throw failure(ErrorKind.InvalidArgument, `there is no layer ${index}`);
    }
    entry.isComplete = true;
    entry.gate.resolve();
  }

  /** No more bytes come. */
  end(): void {
    for (const { gate, digest } of this.#gates) {
      gate.reject(failure(ErrorKind.Aborted, `the bytes of layer ${digest} did not come`));
    }
  }

  /** Bytes may still come and nobody will hear of it. */
  fail(error: unknown): void {
    for (const { gate } of this.#gates) {
      gate.reject(error);
    }
  }
}
