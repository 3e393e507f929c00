import type { Labels } from "#containerd/labels.ts";
import type { CallId } from "#wire/call-id.ts";

/** The records of activations, which the metadata process keeps. All of it throws {@link FlotillaError}. */
export interface MountIndex {
  /** Records an activation. `already_exists`: the name is taken. @returns an id that was never given out before. */
  add(activation: {
    readonly namespace: string;
    readonly name: string;
    readonly lease: string;
    readonly labels: Labels;
  }): Promise<bigint>;
  /**
   * Forgets an activation. `not_found`: there is none.
   *
   * @param call - The call that wants it gone: one that is made again is told the id of the one that it has forgotten already.
   */
  remove(namespace: string, name: string, call?: CallId): Promise<bigint>;
  /** Says which activations are whole; the records of others go. @returns those that no record knows. */
  reconcile(ids: readonly bigint[]): Promise<readonly bigint[]>;
}
