import { create } from "@bufbuild/protobuf";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import {
  type ContainerUpdate,
  ContainerUpdateSchema,
  LinuxContainerUpdateSchema,
  type LinuxResources,
} from "#gen/nri/pkg/api/v1alpha1/api_pb.ts";
import { Owners } from "./owners.ts";
import { copyResources, emptyResources, mergeResources } from "./resources.ts";

/** What an update is collected for. */
export interface UpdateScope {
  readonly owners?: Owners;
  /** A container that is about to be made, and can't be updated yet. */
  readonly creatingId?: string;
  /** The container that is being updated, and what was asked for it; each plugin sees what those before it made of that. */
  readonly requested?: { readonly containerId: string; readonly resources: LinuxResources };
}

/**
 * What all plugins together change of containers that are there.
 *
 * @source containerd/nri v0.12 pkg/adaptation/result.go `collectUpdateContainerResult`, `updateResources`
 */
export class UpdateResult {
  readonly #owners: Owners;
  readonly #scope: UpdateScope;
  readonly #updates = new Map<string, ContainerUpdate>();
  #requested: LinuxResources | undefined;

  constructor(scope: UpdateScope = {}) {
    this.#scope = scope;
    this.#owners = scope.owners ?? new Owners();
    this.#requested = scope.requested?.resources;
  }

  /** What was asked for, as plugins have left it. */
  get requested(): LinuxResources | undefined {
    return this.#requested;
  }

  /** Changes of other containers, in the order in which they were asked for first. */
  get updates(): ContainerUpdate[] {
    return [...this.#updates.values()].filter(({ containerId }) => containerId !== this.#scope.requested?.containerId);
  }

  /** Adds what a plugin answered. @throws {@link FlotillaError} when another plugin has changed the same, unless that may fail. */
  apply(updates: readonly ContainerUpdate[], plugin: string): void {
    for (const update of updates) {
      const collected = this.#collected(update, plugin);
      try {
        this.#merge(collected, update, plugin);
      } catch (error) {
        if (!update.ignoreFailure) {
          throw error;
        }
      }
    }
  }

  #collected(update: ContainerUpdate, plugin: string): ContainerUpdate {
    const { containerId, ignoreFailure } = update;
    if (containerId === this.#scope.creatingId) {
      throw new FlotillaError(ErrorKind.Unknown, `plugin "${plugin}" asked update of "${containerId}" during creation`);
    }
    const known = this.#updates.get(containerId);
    if (known !== undefined) {
      known.ignoreFailure &&= ignoreFailure;
      return known;
    }
    const linux = create(LinuxContainerUpdateSchema, { resources: emptyResources() });
    const fresh = create(ContainerUpdateSchema, { containerId, ignoreFailure, linux });
    this.#updates.set(containerId, fresh);
    return fresh;
  }

  /** Works on a copy, so that a failure that may be changes nothing. */
  #merge(collected: ContainerUpdate, update: ContainerUpdate, plugin: string): void {
    const wanted = update.linux?.resources;
    if (wanted === undefined) {
      return;
    }
    const isRequested = update.containerId === this.#scope.requested?.containerId;
    const resources = copyResources(isRequested ? this.#requested : collected.linux?.resources);
    mergeResources(resources, wanted, { owners: this.#owners, containerId: update.containerId, plugin });
    collected.linux = create(LinuxContainerUpdateSchema, { resources });
    if (isRequested) {
      this.#requested = copyResources(resources);
    }
  }
}
