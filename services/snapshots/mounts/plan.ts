import { ErrorKind, failure } from "#base/errors.ts";
import type { Mount } from "#linux/mount.ts";

/** Which mounts of a list the manager carries out, and what is done to each before. */
export interface ActivationPlan {
  /** The first mount that is left to the caller; the number of mounts when none is. */
  readonly firstSystem: number;
  /** For each mount the names of its transformations, in order, and the type that is left. */
  readonly steps: readonly MountSteps[];
}

/** How one mount is carried out. */
export interface MountSteps {
  readonly transformers: readonly string[];
  readonly type: string;
}

/** Most mounts in a list. @source containerd v2.3.4 core/mount/manager/manager.go `Activate` (one byte for each) */
const mountsMax = 255;

/**
 * Decides what the manager has to do. All before a mount that needs the manager is carried out by it too; a mount that only has to be
 * transformed is left to the caller when it is the last of them.
 *
 * @param known - Names of the transformers and the types that have a handler.
 * @param options.allowedTypes - What the caller can do itself: types, or `format/*` for a transformation.
 * @returns undefined when there is nothing to do.
 * @throws {@link FlotillaError} `invalid_argument` for a list that is too long.
 * @source containerd v2.3.4 core/mount/manager/manager.go `Activate`
 */
export function planActivation(
  mounts: readonly Mount[],
  known: { readonly transformers: ReadonlySet<string>; readonly handlers: ReadonlySet<string> },
  { temporary, allowedTypes }: { readonly temporary: boolean; readonly allowedTypes: readonly string[] },
): ActivationPlan | undefined {
  let firstSystem = -1;
  const steps = mounts.map((mount, index) => {
    const split = splitType(mount.type, known.transformers);
    if (split.transformers.some((name) => !allowedTypes.includes(`${name}/*`) && !allowedTypes.includes(mount.type))) {
      firstSystem = index;
    }
    if (temporary || (known.handlers.has(split.type) && !allowedTypes.includes(split.type))) {
      firstSystem = index + 1;
    }
    return split;
  });
  if (firstSystem >= 0 && mounts.length > mountsMax) {
    throw failure(ErrorKind.InvalidArgument, `too many mounts (${mounts.length}): maximum ${mountsMax}`);
  }
  return firstSystem < 0 ? undefined : { firstSystem, steps };
}

function splitType(type: string, transformers: ReadonlySet<string>): MountSteps {
  const names: string[] = [];
  let rest = type;
  for (let slash = rest.indexOf("/"); slash >= 0; slash = rest.indexOf("/")) {
    const name = rest.slice(0, slash);
    if (!transformers.has(name)) {
      break;
    }
    names.push(name);
    rest = rest.slice(slash + 1);
  }
  return { transformers: names, type: rest };
}
