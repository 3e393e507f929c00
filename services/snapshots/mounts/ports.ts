import type { Labels } from "#containerd/labels.ts";

/** The records of activations, which the metadata process keeps. All of it throws {@link FlotillaError}. */
export interface MountIndex {
  /** Records an activation. `already_exists`: the name is taken. @returns an id that was never given out before. */
  add(activation: {
    readonly namespace: string;
    readonly name: string;
    readonly lease: string;
    readonly labels: Labels;
  }): Promise<bigint>;
  /** Forgets an activation. `not_found`: there is none. */
  remove(namespace: string, name: string): Promise<bigint>;
  /** Says which activations are whole; the records of others go. @returns those that no record knows. */
  reconcile(ids: readonly bigint[]): Promise<readonly bigint[]>;
}
