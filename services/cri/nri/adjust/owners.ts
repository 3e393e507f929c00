import { create } from "@bufbuild/protobuf";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import {
  CompoundFieldOwnersSchema,
  Field,
  FieldOwnersSchema,
  type OwningPlugins,
  OwningPluginsSchema,
} from "#gen/nri/pkg/api/v1alpha1/api_pb.ts";
import { enumName } from "../../containers/spec/enum-name.ts";

/** What a name begins with that is to be removed. @source containerd/nri v0.12 pkg/api/helpers.go `MarkForRemoval` */
const removalMark = "-";

/** A name without its mark, and whether it is to be removed. */
export function readMark(name: string): { readonly name: string; readonly isRemoval: boolean } {
  const isRemoval = name.startsWith(removalMark);
  return { name: isRemoval ? name.slice(removalMark.length) : name, isRemoval };
}

/** A name with the mark that it is to be removed. */
export function markRemoval(name: string): string {
  return removalMark + name;
}

/**
 * Who has changed what of the containers of one request: two plugins may not change the same, unless the second has removed before what the
 * first had set.
 *
 * @source containerd/nri v0.12 pkg/api/owners.go `FieldOwners`
 */
export class Owners {
  readonly #message: OwningPlugins = create(OwningPluginsSchema);

  /** As validators are told. */
  get message(): OwningPlugins {
    return this.#message;
  }

  /**
   * Takes a field for a plugin.
   *
   * @param key - Which of several, such as the destination of a mount.
   * @throws {@link FlotillaError} `unknown` when another plugin has it.
   */
  claim(containerId: string, field: Field, plugin: string, key?: string): void {
    const owners = this.#ownersOf(containerId, field, key);
    const slot = key ?? field;
    const { name: other, isRemoval } = readMark(owners[slot] ?? "");
    if (other !== "" && !(isRemoval && other === plugin)) {
      const what = `${enumName(Field, field)} ${key ?? ""}`;
      throw new FlotillaError(ErrorKind.Unknown, `plugins "${plugin}" and "${other}" both tried to set ${what}`);
    }
    owners[slot] = plugin;
  }

  /** Adds a plugin to those that have changed a field together. */
  share(containerId: string, field: Field, plugin: string): void {
    const owners = this.#ownersOf(containerId, field, undefined);
    owners[field] = owners[field] === undefined ? plugin : `${owners[field]},${plugin}`;
  }

  /** Notes that a plugin has removed what another had set, so that it may set it. */
  clear(containerId: string, field: Field, plugin: string, key?: string): void {
    this.#ownersOf(containerId, field, key)[key ?? field] = markRemoval(plugin);
  }

  #ownersOf(containerId: string, field: Field, key: string | undefined): Record<string | number, string> {
    const fields = (this.#message.owners[containerId] ??= create(FieldOwnersSchema));
    return key === undefined ? fields.simple : (fields.compound[field] ??= create(CompoundFieldOwnersSchema)).owners;
  }
}
