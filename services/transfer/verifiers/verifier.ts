import type { Descriptor } from "../registry/ports.ts";

/** What a verifier says of an image. */
export interface Judgement {
  readonly isAccepted: boolean;
  readonly reason: string;
}

/** Decides whether an image may be pulled, by its name and what the name stands for. */
export interface ImageVerifier {
  /** @throws When no judgement can be had, which counts as a refusal. */
  verify(image: {
    readonly name: string;
    readonly descriptor: Descriptor;
    readonly signal: AbortSignal;
  }): Promise<Judgement>;
}
