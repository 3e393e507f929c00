import type { Capability } from "#gen/runtime/v1/api_pb.ts";
import type { OciCapabilities } from "./oci-spec.ts";

const sets = ["bounding", "effective", "permitted"] as const;

/**
 * What a process may do: first all or nothing where `ALL` is added or dropped, then what is added, then what is dropped, so that `ALL` without one is said by adding
 * all and dropping one. Names are taken with and without case, and come without `CAP_`.
 *
 * Capabilities that stay over a change of the user are left out as containerd leaves them out.
 *
 * @param all - Everything that this daemon may do.
 * @source containerd v2.3.4 internal/cri/opts/spec_opts.go `WithCapabilities`, `WithoutAmbientCaps`
 */
export function applyCapabilities(
  start: OciCapabilities | undefined,
  wishes: Capability | undefined,
  all: readonly string[],
): OciCapabilities {
  let result: OciCapabilities = { ...start };
  if (wishes !== undefined) {
    if (hasAll(wishes.addCapabilities)) {
      result = replaceCapabilities(result, all);
    }
    if (hasAll(wishes.dropCapabilities)) {
      result = replaceCapabilities(result, []);
    }
    const added = namesOf(wishes.addCapabilities);
    for (const set of sets) {
      result[set] = [...new Set([...(result[set] ?? []), ...added])];
    }
    const dropped = new Set(namesOf(wishes.dropCapabilities));
    for (const set of [...sets, "inheritable"] as const) {
      const names = result[set]?.filter((name) => !dropped.has(name));
      if (names !== undefined) {
        result[set] = names;
      }
    }
  }
  delete result.ambient;
  return result;
}

/** Gives a process these capabilities and no others. @source containerd v2.3.4 pkg/oci/spec_opts.go `WithCapabilities` */
export function replaceCapabilities(start: OciCapabilities, names: readonly string[]): OciCapabilities {
  const { inheritable, ...result } = start;
  for (const set of sets) {
    result[set] = [...names];
  }
  const kept = inheritable?.filter((name) => names.includes(name)) ?? [];
  return kept.length > 0 ? { ...result, inheritable: kept } : result;
}

function hasAll(names: readonly string[]): boolean {
  return names.some((name) => name.toUpperCase() === "ALL");
}

function namesOf(names: readonly string[]): string[] {
  return names
    .map((name) => name.toUpperCase())
    .filter((name) => name !== "ALL")
    .map((name) => `CAP_${name}`);
}
