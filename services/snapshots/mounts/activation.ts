import type { Labels } from "#containerd/labels.ts";
import type { Mount } from "#linux/mount.ts";
import type { CallId } from "#wire/call-id.ts";

/** A mount that the manager has carried out. */
export interface ActiveMount {
  /** As it was carried out, with transformations applied. */
  readonly mount: Mount;
  /** Where it is: a directory, or a link to a device. */
  readonly mountPoint: string;
  /** Nanoseconds since the epoch. */
  readonly mountedAtNs: bigint;
}

/** A list of mounts of which the manager has carried out the first ones. */
export interface Activation {
  readonly id: bigint;
  readonly namespace: string;
  /** The client's name, unique in the namespace. */
  readonly name: string;
  readonly active: readonly ActiveMount[];
  /** What is left for the caller. */
  readonly system: readonly Mount[];
  readonly labels: Labels;
  /** What the call is known by that has made it; undefined where nobody makes that again. */
  readonly call: string | undefined;
}

/** What a client wants to have mounted. */
export interface ActivationOrder {
  readonly namespace: string;
  readonly name: string;
  /** Lease that shall hold it; "" for none. */
  readonly lease: string;
  readonly mounts: readonly Mount[];
  readonly labels: Labels;
  /** Carry out all, and leave a bind mount of the result to the caller. */
  readonly temporary: boolean;
  /** When nothing is left to mount, leave a bind mount of the last to the caller, who wants a place to mount on. */
  readonly leavesBind?: boolean;
  /** Types and transformations (`format/*`) that the caller can do, see {@link planActivation}. */
  readonly allowedTypes: readonly string[];
  /** The call that wants it. */
  readonly call?: CallId | undefined;
}
