import { randomUUID } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { ErrorKind, FlotillaError, isFailure, wrapFailure } from "#base/errors.ts";
import { KeyedLock } from "#base/keyed-lock.ts";
import { quote } from "#base/quote.ts";
import { wallClock } from "#base/times.ts";
import { type Mount, mountOne } from "#linux/mount.ts";
import { unmountAll } from "#linux/unmount.ts";
import type { CallId } from "#wire/call-id.ts";
import type { Activation, ActivationOrder, ActiveMount } from "./activation.ts";
import type { ActivationFiles } from "./activation-files.ts";
import type { MountHandler } from "./handlers/handler.ts";
import { type ActivationPlan, planActivation } from "./plan.ts";
import type { MountIndex } from "./ports.ts";
import type { Transformer } from "./transformers/transformer.ts";

/** What a manager works with. */
export interface MountManagerParts {
  readonly index: MountIndex;
  readonly files: ActivationFiles;
  readonly handlers: readonly MountHandler[];
  /** Transformations by their name, the prefix of a type. */
  readonly transformers: ReadonlyMap<string, Transformer>;
  /** Told of a mount that could not be undone; the collector tries again. */
  readonly onLeft: (place: string, error: unknown) => void;
}

/**
 * Carries out mounts for clients, and takes them off again when their client says so or when nothing holds them any more.
 *
 * Recorded first, mounted second, written down last. Taken off the other way round: forgotten by the index first, so that a name can be used
 * again at once, unmounted second. So a crash leaves a record without mounts, which the next start removes, or mounts without
 * a record, which it takes off.
 *
 * @source containerd v2.3.4 core/mount/manager/manager.go
 */
export class MountManager {
  readonly #parts: MountManagerParts;
  readonly #handlers: ReadonlyMap<string, MountHandler>;
  readonly #known: { readonly transformers: ReadonlySet<string>; readonly handlers: ReadonlySet<string> };
  /** Whole activations by namespace and name. */
  readonly #activations = new Map<string, Activation>();
  readonly #names = new KeyedLock<string>();
  readonly #ids = new KeyedLock<bigint>();

  constructor(parts: MountManagerParts) {
    this.#parts = parts;
    this.#handlers = new Map(parts.handlers.map((handler) => [handler.type, handler]));
    this.#known = { transformers: new Set(parts.transformers.keys()), handlers: new Set(this.#handlers.keys()) };
  }

  /** Takes up what an earlier process has mounted, and takes off what no record knows. To be called once, before all else. */
  async takeUp(): Promise<void> {
    const { files, index } = this.#parts;
    const { whole, places } = await files.list();
    const orphans = new Set(await index.reconcile(whole.map(({ id }) => id)));
    for (const activation of whole.filter(({ id }) => !orphans.has(id))) {
      this.#activations.set(nameOf(activation), activation);
    }
    const kept = new Set([...this.#activations.values()].map(({ id }) => String(id)));
    for (const place of places.filter((candidate) => !kept.has(candidate))) {
      await this.#takeOff(place).catch((error: unknown) => this.#parts.onLeft(place, error));
    }
  }

  /**
   * Carries out the mounts of a list that need it, and those before them.
   *
   * When it fails nothing is mounted and the name is free. An order whose call a former process has carried out is answered as it was then.
   *
   * @throws {@link FlotillaError} `not_implemented` when no mount needs it; `already_exists` when the name is taken; `not_found` when the lease
   *   is not there.
   */
  async activate(order: ActivationOrder): Promise<Activation> {
    const plan = planActivation(order.mounts, this.#known, order);
    if (plan === undefined) {
      throw new FlotillaError(ErrorKind.NotImplemented, ErrorKind.NotImplemented);
    }
    const key = nameOf(order);
    return await this.#names.run([key], async () => {
      const made = this.#activations.get(key);
      if (order.call?.repeatedAfterMs !== undefined && made?.call === order.call.id) {
        return made;
      }
      const id = await this.#add(order);
      return await this.#ids.run([id], async () => {
        try {
          const { namespace, name, labels, call } = order;
          const carriedOut = await this.#carryOut(String(id), order, plan);
          const activation = { id, namespace, name, labels, call: call?.id, ...carriedOut };
          await this.#parts.files.write(activation);
          this.#activations.set(key, activation);
          return activation;
        } catch (error) {
          await this.#parts.index
            .remove(order.namespace, order.name)
            .catch((left: unknown) => this.#parts.onLeft(String(id), left));
          await this.#takeOff(String(id)).catch((left: unknown) => this.#parts.onLeft(String(id), left));
          throw error;
        }
      });
    });
  }

  /**
   * Takes an activation off. Its name is free from then on, even when unmounting fails. A call that is made again goes on where the one before ended.
   *
   * @throws {@link FlotillaError} `not_found`; what unmounting fails with.
   */
  async deactivate(namespace: string, name: string, call?: CallId): Promise<void> {
    const key = nameOf({ namespace, name });
    await this.#names.run([key], async () => {
      const id = await this.#parts.index.remove(namespace, name, call);
      if (this.#activations.get(key)?.id === id) {
        this.#activations.delete(key);
      }
      await this.#ids.run([id], () => this.#takeOff(String(id)));
    });
  }

  /**
   * Carries mounts out for as long as a function runs. Nobody else sees them, and nothing is recorded.
   *
   * @param use - Gets what is left to mount: all of it, when there was nothing to do.
   */
  async withActivated<T>(mounts: readonly Mount[], use: (system: readonly Mount[]) => Promise<T>): Promise<T> {
    const order = { mounts, temporary: false, leavesBind: true, allowedTypes: [] };
    const plan = planActivation(mounts, this.#known, order);
    if (plan === undefined) {
      return await use(mounts);
    }
    const place = `use-${randomUUID()}`;
    try {
      const { system } = await this.#carryOut(place, order, plan);
      return await use(system);
    } finally {
      await this.#takeOff(place);
    }
  }

  /** @throws {@link FlotillaError} `not_found`. */
  info(namespace: string, name: string): Activation {
    const found = this.#activations.get(nameOf({ namespace, name }));
    if (found === undefined) {
      throw new FlotillaError(ErrorKind.NotFound, `mount ${quote(name)} ${ErrorKind.NotFound}`);
    }
    return found;
  }

  /** The activations of a namespace, by name. */
  list(namespace: string): Activation[] {
    return [...this.#activations.values()]
      .filter((activation) => activation.namespace === namespace)
      .sort((left, right) => (left.name < right.name ? -1 : 1));
  }

  /** Takes off what has no record any more. @returns the ids of which nothing is left. */
  async removeMounts(ids: readonly bigint[]): Promise<bigint[]> {
    const removed: bigint[] = [];
    for (const id of ids) {
      const known = [...this.#activations.values()].find((activation) => activation.id === id);
      if (known !== undefined) {
        this.#activations.delete(nameOf(known));
      }
      try {
        await this.#ids.run([id], () => this.#takeOff(String(id)));
        removed.push(id);
      } catch (error) {
        this.#parts.onLeft(String(id), error);
      }
    }
    return removed;
  }

  /** Records an activation; a record that a crash has left unfinished gives way. */
  async #add(order: ActivationOrder): Promise<bigint> {
    const { index } = this.#parts;
    const isWhole = this.#activations.has(nameOf(order));
    try {
      return await index.add(order);
    } catch (error) {
      if (isWhole || !isFailure(error, ErrorKind.AlreadyExists)) {
        throw error;
      }
    }
    const stale = await index.remove(order.namespace, order.name);
    await this.removeMounts([stale]);
    return await index.add(order);
  }

  async #carryOut(
    place: string,
    order: Pick<ActivationOrder, "mounts" | "temporary" | "leavesBind">,
    { firstSystem, steps }: ActivationPlan,
  ): Promise<Pick<Activation, "active" | "system">> {
    const { files } = this.#parts;
    const active: ActiveMount[] = [];
    const transformed = async (index: number): Promise<Mount> => {
      let mount = order.mounts[index] as Mount;
      const step = steps[index];
      for (const transformer of step?.transformers ?? []) {
        mount = (await this.#parts.transformers.get(transformer)?.(mount, active)) ?? mount;
      }
      return { ...mount, type: step?.type ?? mount.type };
    };
    await files.makeTarget(place);
    for (let index = 0; index < firstSystem; index += 1) {
      const mount = await transformed(index);
      const position = firstSystem - index;
      const mountPoint = await files.reserve(place, { position, count: firstSystem, type: mount.type });
      active.push({ mount: await this.#mount(mount, mountPoint), mountPoint, mountedAtNs: wallClock() });
    }
    const system = order.mounts.slice(firstSystem);
    if (firstSystem < order.mounts.length) {
      system[0] = await transformed(firstSystem);
    }
    const last = active.at(-1);
    if (last !== undefined && (order.temporary || (order.leavesBind === true && system.length === 0))) {
      system.push({ type: "bind", source: last.mountPoint, options: ["rbind"] });
    }
    return { active, system };
  }

  async #mount(mount: Mount, mountPoint: string): Promise<Mount> {
    const handler = this.#handlers.get(mount.type);
    try {
      if (handler !== undefined) {
        return await handler.mount(mount, mountPoint);
      }
      await mkdir(mountPoint, { mode: 0o700 });
      await mountOne(mount, mountPoint);
      return mount;
    } catch (error) {
      throw wrapFailure(error, `mount${handler === undefined ? "" : " handler"} failed ${describe(mount)}`);
    }
  }

  /** Undoes all mounts of an activation, whole or not, the last one first. All are tried. */
  async #takeOff(place: string): Promise<void> {
    const { files } = this.#parts;
    const errors: unknown[] = [];
    for (const { mountPoint, type } of await files.listMountPoints(place)) {
      try {
        await (this.#handlers.get(type)?.unmount(mountPoint) ?? unmountAll(mountPoint));
      } catch (error) {
        errors.push(error);
      }
    }
    const [first] = errors;
    if (first !== undefined) {
      throw first;
    }
    await files.remove(place);
  }
}

function nameOf({ namespace, name }: { readonly namespace: string; readonly name: string }): string {
  return `${namespace}/${name}`;
}

/** As Go prints a mount. */
function describe({ type, source, target = "", options }: Mount): string {
  return `{${type} ${source} ${target} [${options.join(" ")}]}`;
}
