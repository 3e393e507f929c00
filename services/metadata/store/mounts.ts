import { ErrorKind, failure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import type { Labels } from "#containerd/labels.ts";
import type { Statement } from "#sqlite/open.ts";
import { readReferenceFacts } from "../domain/reference-labels.ts";
import { type Resource, ResourceKind } from "../domain/resource.ts";
import type { LeaseStore } from "./leases.ts";
import type { NamespaceContents } from "./namespaces.ts";
import type { Records } from "./records.ts";
import type { ReleaseStore } from "./releases.ts";
import type { SequenceStore } from "./sequences.ts";

/** An activation of mounts that is to be recorded. */
export interface NewActivation {
  readonly namespace: string;
  readonly name: string;
  /** Lease that shall hold it; "" for none. */
  readonly lease: string;
  readonly labels: Labels;
}

interface ActivationRow {
  readonly namespace: string;
  readonly name: string;
  readonly id: bigint;
  readonly lease: string;
}

const idSequence = "mounts";

/**
 * Which activations of mounts there are and what holds them: a lease, or back references in their labels. What was mounted is
 * known by the snapshots process alone, and not after a reboot.
 *
 * @source containerd v2.3.4 core/mount/manager/manager.go
 */
export class MountStore implements NamespaceContents {
  readonly #records: Records;
  readonly #leases: LeaseStore;
  readonly #releases: ReleaseStore;
  readonly #sequences: SequenceStore;
  readonly #find: Statement<[string, string], ActivationRow>;
  readonly #list: Statement<[], ActivationRow>;
  readonly #listNamespace: Statement<[string], ActivationRow>;
  readonly #add: Statement<[string, string, bigint, string]>;
  readonly #remove: Statement<[string, string]>;

  constructor(
    records: Records,
    stores: { readonly leases: LeaseStore; readonly releases: ReleaseStore; readonly sequences: SequenceStore },
  ) {
    const { database } = records;
    this.#records = records;
    this.#leases = stores.leases;
    this.#releases = stores.releases;
    this.#sequences = stores.sequences;
    const columns = "SELECT namespace, name, id, lease FROM mounts";
    this.#find = database
      .prepare<[string, string], ActivationRow>(`${columns} WHERE namespace = ? AND name = ?`)
      .safeIntegers();
    this.#list = database.prepare<[], ActivationRow>(columns).safeIntegers();
    this.#listNamespace = database.prepare<[string], ActivationRow>(`${columns} WHERE namespace = ?`).safeIntegers();
    this.#add = database.prepare("INSERT INTO mounts (namespace, name, id, lease) VALUES (?, ?, ?, ?)");
    this.#remove = database.prepare("DELETE FROM mounts WHERE namespace = ? AND name = ?");
  }

  /**
   * Records an activation before anything is mounted.
   *
   * @returns Its id, which was never given out before.
   * @throws {@link FlotillaError} `already_exists`; `not_found` when the lease is not there.
   */
  add({ namespace, name, lease, labels }: NewActivation): Promise<bigint> {
    return this.#records.maintainOnce(() => {
      if (this.#find.get(namespace, name) !== undefined) {
        throw failure(ErrorKind.AlreadyExists, `mount ${quote(name)}`);
      }
      const resource = resourceOf(namespace, name);
      const id = this.#sequences.next(idSequence);
      this.#add.run(namespace, name, id, lease);
      this.#records.graph.put(resource, readReferenceFacts(ResourceKind.Mount, labels));
      this.#leases.hold(lease, resource);
      return id;
    });
  }

  /**
   * Forgets an activation, whose mounts the collector has taken off if the snapshots process does not.
   *
   * @throws {@link FlotillaError} `not_found`.
   */
  remove(namespace: string, name: string): Promise<bigint> {
    return this.#records.maintainOnce(() => {
      const row = this.#find.get(namespace, name);
      if (row === undefined) {
        throw failure(ErrorKind.NotFound, `missing mount ${quote(name)} bucket`);
      }
      this.#drop(row);
      return row.id;
    });
  }

  /** Removes the record of an activation, inside a change. */
  collect(namespace: string, name: string): void {
    const row = this.#find.get(namespace, name);
    if (row !== undefined) {
      this.#drop(row);
    }
  }

  removeNamespace(namespace: string): void {
    for (const row of this.#listNamespace.all(namespace)) {
      this.#drop(row);
    }
  }

  /**
   * Compares what is mounted with the records. Records without mounts go: they are of before a reboot, or were never finished.
   *
   * @param ids - Activations that are whole.
   * @returns Those of them that no record knows.
   */
  reconcile(ids: readonly bigint[]): Promise<bigint[]> {
    return this.#records.maintain(() => {
      const whole = new Set(ids);
      const known = new Set<bigint>();
      for (const row of this.#list.all()) {
        if (whole.has(row.id)) {
          known.add(row.id);
        } else {
          this.#drop(row);
        }
      }
      return ids.filter((id) => !known.has(id));
    });
  }

  #drop({ namespace, name, id, lease }: ActivationRow): void {
    const resource = resourceOf(namespace, name);
    this.#remove.run(namespace, name);
    this.#records.graph.remove(resource);
    this.#leases.release(lease, resource);
    this.#releases.releaseMount(id);
  }
}

function resourceOf(namespace: string, name: string): Resource {
  return { namespace, kind: ResourceKind.Mount, key: name };
}
