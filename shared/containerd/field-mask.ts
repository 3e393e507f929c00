/** What a path of an update mask does to one field. */
export interface MaskedField {
  /** Takes the whole field over. Absent where only entries of it may be named. */
  readonly replace?: () => void;
  /** Takes one entry of a map over. Absent where the field is no map. */
  readonly replaceEntry?: (key: string) => void;
}

/**
 * Applies the paths of an update mask in order: `labels` names a field, `labels.x.y/z` the entry `x.y/z` of a map.
 *
 * @param fields - By the name that stands before the first dot.
 * @param refuse - Makes the error for a path that names nothing that may change. Paths before it have been applied then.
 * @source containerd v2.3.4 core/metadata/containers.go, images.go, content.go, snapshot.go, sandbox.go `Update`
 */
export function applyFieldMask(
  paths: readonly string[],
  fields: Readonly<Record<string, MaskedField>>,
  refuse: (path: string) => Error,
): void {
  for (const path of paths) {
    const dot = path.indexOf(".");
    const name = dot < 0 ? path : path.slice(0, dot);
    const field = Object.hasOwn(fields, name) ? fields[name] : undefined;
    if (dot >= 0 && field?.replaceEntry !== undefined) {
      field.replaceEntry(path.slice(dot + 1));
    } else if (dot < 0 && field?.replace !== undefined) {
      field.replace();
    } else {
      throw refuse(path);
    }
  }
}

/**
 * A field that is a map and may be replaced whole or by entry.
 *
 * @param absent - The value that an entry takes which the mask names and the request lacks.
 */
export function maskedMap<K extends string, V>(
  target: { [P in NoInfer<K>]: Record<string, NoInfer<V>> },
  field: K,
  wanted: Readonly<Record<string, V>>,
  absent: V,
): Required<MaskedField> {
  return {
    replace: () => {
      target[field] = { ...wanted };
    },
    replaceEntry: (key) => {
      target[field] = { ...target[field], [key]: Object.hasOwn(wanted, key) ? (wanted[key] as V) : absent };
    },
  };
}

/** A field that may be replaced whole by what another of its kind has. */
export function maskedValue<T>(target: T, field: keyof T, wanted: Readonly<T>): Required<Pick<MaskedField, "replace">> {
  return {
    replace: () => {
      target[field] = wanted[field];
    },
  };
}
