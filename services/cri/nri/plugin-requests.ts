import { errorMessage } from "#base/errors.ts";
import type { Logger } from "#fleet/log.ts";
import type { ContainerUpdate } from "#gen/nri/pkg/api/v1alpha1/api_pb.ts";
import type { LinuxContainerResources } from "#gen/runtime/v1/api_pb.ts";
import { toKubelet } from "./describe.ts";

/** What is done for plugins. */
export interface RequestPorts {
  /** Changes resources of a container, without any plugin being told. */
  readonly updateResources: (containerId: string, resources: LinuxContainerResources) => Promise<void>;
  /** Ends a container at once, without waiting for plugins. */
  readonly evict: (containerId: string) => Promise<void>;
}

/** What plugins want of containers that are there. What can't be done is told of in the log. */
export class PluginRequests {
  readonly #ports: RequestPorts;
  readonly #log: Logger;

  constructor(ports: RequestPorts, log: Logger) {
    this.#ports = ports;
    this.#log = log;
  }

  /** Changes resources. @returns What could not be done, and is not to be passed over. */
  async update(updates: readonly ContainerUpdate[]): Promise<ContainerUpdate[]> {
    const failed: ContainerUpdate[] = [];
    for (const update of updates) {
      const resources = update.linux?.resources;
      try {
        if (resources !== undefined) {
          await this.#ports.updateResources(update.containerId, toKubelet(resources));
        }
      } catch (error) {
        this.warn(error);
        if (!update.ignoreFailure) {
          failed.push(update);
        }
      }
    }
    return failed;
  }

  /** Ends containers. */
  async evict(containerIds: readonly string[]): Promise<void> {
    for (const id of containerIds) {
      await this.#ports.evict(id).catch((error: unknown) => this.warn(error));
    }
  }

  /** Tells that something could not be done. */
  warn(error: unknown): void {
    this.#log.warn({ err: errorMessage(error) }, "what a plugin wants could not be done");
  }
}
