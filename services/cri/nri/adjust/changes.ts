import { markRemoval, readMark } from "./owners.ts";

/** How the things of one kind are told apart, and who has set which. */
export interface NamedChanges {
  claim(name: string): void;
  clear(name: string): void;
}

/**
 * Adds what a plugin changes of things that come in lists to what those before it did, and to the things themselves. Those that it changes or
 * removes go, the changed ones come back at the end.
 *
 * @returns Both lists anew. Removals stay in the first, so that they are done in the end.
 * @source containerd/nri v0.12 pkg/adaptation/result.go `adjustMounts`, `adjustDevices`, `adjustEnv`
 */
export function mergeLists<C, P>(
  changes: readonly C[],
  {
    earlier,
    present,
    nameOf,
    nameOfPresent,
    asPresent,
    owners,
  }: {
    readonly earlier: readonly C[];
    readonly present: readonly P[];
    readonly nameOf: (change: C) => string;
    readonly nameOfPresent: (thing: P) => string;
    readonly asPresent: (change: C) => P;
    readonly owners: NamedChanges;
  },
): { readonly changes: C[]; readonly present: P[] } {
  const marked = changes.map((change) => ({ change, ...readMark(nameOf(change)) }));
  const removed = new Set(marked.filter(({ isRemoval }) => isRemoval).map(({ name }) => name));
  const set = marked.filter(({ isRemoval }) => !isRemoval);
  const setNames = new Set(set.map(({ name }) => name));
  const kept = earlier.filter((change) => {
    const isGone = removed.has(nameOf(change));
    if (isGone) {
      owners.clear(nameOf(change));
    }
    return !isGone;
  });
  for (const { name } of set) {
    owners.claim(name);
  }
  const removals = marked.filter(({ name, isRemoval }) => isRemoval && !setNames.has(name));
  return {
    changes: [...kept, ...[...removals, ...set].map(({ change }) => change)],
    present: [
      ...present.filter((thing) => !removed.has(nameOfPresent(thing)) && !setNames.has(nameOfPresent(thing))),
      ...set.map(({ change }) => asPresent(change)),
    ],
  };
}

/**
 * The same for things that have a value by their name. Both maps are changed.
 *
 * @source containerd/nri v0.12 pkg/adaptation/result.go `adjustAnnotations`, `adjustSysctl`, `adjustLinuxNetDevices`
 */
export function mergeMaps<V>(
  changes: Readonly<Record<string, V>>,
  {
    collected,
    present,
    owners,
  }: {
    readonly collected: Record<string, V>;
    readonly present: Record<string, V>;
    readonly owners: NamedChanges;
  },
): void {
  const entries = Object.entries(changes).map(([key, value]) => ({ ...readMark(key), value }));
  for (const { name, value } of entries.filter(({ isRemoval }) => isRemoval)) {
    if (Object.hasOwn(collected, name)) {
      owners.clear(name);
      delete collected[name];
    }
    delete present[name];
    collected[markRemoval(name)] = value;
  }
  for (const { name, value } of entries.filter(({ isRemoval }) => !isRemoval)) {
    owners.claim(name);
    collected[name] = value;
    present[name] = value;
  }
}
