import { create } from "@bufbuild/protobuf";
import type { Logger } from "#fleet/log.ts";
import {
  type Container,
  ContainerState,
  Event,
  Plugin as PluginService,
  type PodSandbox,
  PodSandboxSchema,
} from "#gen/nri/pkg/api/v1alpha1/api_pb.ts";
import type { LinuxContainerResources } from "#gen/runtime/v1/api_pb.ts";
import type { OciSpec } from "../containers/spec/oci-spec.ts";
import type { Pod } from "../store/pod.ts";
import type { ValidatorSettings } from "./adjust/default-validator.ts";
import { type AdjustmentPorts, adjustSpec } from "./adjust/spec-adjustment.ts";
import { UpdateResult } from "./adjust/update-result.ts";
import { describeContainer, describePod, fromKubelet, type NriContainer, toKubelet } from "./describe.ts";
import { PluginRequests, type RequestPorts } from "./plugin-requests.ts";
import { askForAdjustment } from "./plugins/ask-for-adjustment.ts";
import type { NriPlugin } from "./plugins/connected-plugin.ts";
import { PluginSet, type PluginSetOptions } from "./plugins/plugin-set.ts";

/** What NRI asks of the rest of the process. */
export interface NriPorts extends AdjustmentPorts, RequestPorts {
  /** Pods and containers that are there, without those that have ended. */
  readonly list: () => { readonly pods: readonly Pod[]; readonly containers: readonly NriContainer[] };
  /** Specification of a container's record; undefined when there is none. */
  readonly specOf: (containerId: string) => Promise<OciSpec | undefined>;
  /** Specification of a pod's sandbox; undefined when there is none. */
  readonly specOfPod: (podId: string) => Promise<OciSpec | undefined>;
}

/** What is set of NRI, and who it serves. */
export type NriOptions = Omit<PluginSetOptions, "describeAll" | "update" | "evict"> & {
  /** undefined when nothing is judged. */
  readonly validator: ValidatorSettings | undefined;
  readonly log: Logger;
};

/**
 * The Node Resource Interface: plugins are told of pods and containers, and change containers that are about to be made.
 *
 * Every call is next to nothing while no plugin is connected. What a plugin answers with an error fails the call; one that does not answer is let
 * go of.
 *
 * @source containerd v2.3.4 internal/nri/nri.go, internal/cri/nri/nri_api_linux.go
 */
export class Nri implements AsyncDisposable {
  readonly #ports: NriPorts;
  readonly #options: NriOptions;
  readonly #plugins: PluginSet;
  readonly #requests: PluginRequests;
  /** Containers that plugins know of, and whether they have been told of the end. */
  readonly #known = new Map<string, "there" | "ended">();
  /** Pods of whose end plugins have been told: to remove one is to stop it once more. */
  readonly #stoppedPods = new Set<string>();

  constructor(options: NriOptions, ports: NriPorts) {
    this.#options = options;
    this.#ports = ports;
    this.#requests = new PluginRequests(ports, options.log);
    this.#plugins = new PluginSet({
      ...options,
      describeAll: () => this.#describeAll(),
      update: (updates) => this.#requests.update(updates),
      evict: (ids) => this.#requests.evict(ids),
    });
  }

  /** Starts and awaits plugins. To be called when all that was there is known. @throws When the socket can't be had. */
  async start(): Promise<void> {
    await this.#plugins.start();
  }

  /** Does something between whose beginning and end no plugin is taken in: the making or removing of one pod or container. */
  async during<T>(act: () => Promise<T>): Promise<T> {
    return await this.#plugins.during(act);
  }

  /** A pod is about to be ready. @throws What a plugin says against it; others are told that it is gone. */
  async runPod(pod: Pod): Promise<void> {
    try {
      await this.#notify(Event.RUN_POD_SANDBOX, PluginService.method.runPodSandbox, { pod });
    } catch (error) {
      await this.stopPod(pod).catch(() => undefined);
      await this.removePod(pod).catch(() => undefined);
      throw error;
    }
  }

  /** Resources of a pod are about to change. @throws What a plugin says against it. */
  async updatePod(pod: Pod, overhead?: LinuxContainerResources, resources?: LinuxContainerResources): Promise<void> {
    await this.#each(async (plugin) => {
      await plugin.tell(Event.UPDATE_POD_SANDBOX, PluginService.method.updatePodSandbox, {
        pod: await this.#describePod(pod),
        ...(overhead === undefined ? {} : { overheadLinuxResources: fromKubelet(overhead) }),
        ...(resources === undefined ? {} : { linuxResources: fromKubelet(resources) }),
      });
    });
  }

  /** Resources of a pod have changed. */
  async postUpdatePod(pod: Pod): Promise<void> {
    await this.#notify(Event.POST_UPDATE_POD_SANDBOX, PluginService.method.postUpdatePodSandbox, { pod });
  }

  /** A pod has ended. Plugins are told once. @source containerd v2.3.4 internal/nri/nri.go `StopPodSandbox` */
  async stopPod(pod: Pod): Promise<void> {
    if (this.#stoppedPods.has(pod.id)) {
      return;
    }
    this.#stoppedPods.add(pod.id);
    await this.#notify(Event.STOP_POD_SANDBOX, PluginService.method.stopPodSandbox, { pod });
  }

  /** A pod is gone. */
  async removePod(pod: Pod): Promise<void> {
    this.#stoppedPods.delete(pod.id);
    await this.#notify(Event.REMOVE_POD_SANDBOX, PluginService.method.removePodSandbox, { pod });
  }

  /**
   * A container is about to be made.
   *
   * @param spec - Is changed as plugins want it.
   * @throws {@link FlotillaError} what a plugin says against it; `unknown` when two want to change the same, or what they want is not to be.
   */
  async createContainer(pod: Pod, container: NriContainer, spec: OciSpec): Promise<void> {
    if (this.#plugins.isEmpty && this.#options.validator === undefined) {
      this.#known.set(container.id, "there");
      return;
    }
    const podMessage = await this.#describePod(pod);
    const describe = (): Container => describeContainer(container, spec);
    const { adjust, update, evictions } = await askForAdjustment(this.#plugins, {
      pod: podMessage,
      describe,
      validator: this.#options.validator,
    });
    this.#known.set(container.id, "there");
    await this.#requests.evict(evictions);
    await this.#requests.update(update);
    await adjustSpec(spec, adjust, this.#ports);
  }

  /** A container that plugins were told of could not be made. Never rejects. */
  async undoCreate(pod: Pod, container: NriContainer): Promise<void> {
    await this.stopContainer(pod, container).catch((error: unknown) => this.#requests.warn(error));
    await this.removeContainer(pod, container).catch((error: unknown) => this.#requests.warn(error));
  }

  /** A container has been made. */
  async postCreateContainer(pod: Pod, container: NriContainer): Promise<void> {
    const { method } = PluginService;
    await this.#notify(Event.POST_CREATE_CONTAINER, method.postCreateContainer, { pod, container });
  }

  /** A container is about to be started. @throws What a plugin says against it. */
  async startContainer(pod: Pod, container: NriContainer): Promise<void> {
    await this.#notify(Event.START_CONTAINER, PluginService.method.startContainer, { pod, container });
  }

  /** A container has been started. */
  async postStartContainer(pod: Pod, container: NriContainer): Promise<void> {
    await this.#notify(Event.POST_START_CONTAINER, PluginService.method.postStartContainer, { pod, container });
  }

  /**
   * Resources of a container are about to change.
   *
   * @returns What is to be done instead of what was asked for.
   * @throws What a plugin says against it.
   */
  async updateContainer(
    pod: Pod,
    container: NriContainer,
    resources: LinuxContainerResources,
  ): Promise<LinuxContainerResources> {
    if (this.#plugins.isEmpty) {
      return resources;
    }
    const requested = { containerId: container.id, resources: fromKubelet(resources) };
    const result = new UpdateResult({ requested });
    const [podMessage, containerMessage] = [await this.#describePod(pod), await this.#describe(container)];
    const evictions: string[] = [];
    await this.#plugins.each(async (plugin) => {
      const answer = await plugin.tell(Event.UPDATE_CONTAINER, PluginService.method.updateContainer, {
        pod: podMessage,
        container: containerMessage,
        linuxResources: result.requested ?? requested.resources,
      });
      if (answer !== undefined) {
        result.apply(answer.update, plugin.name);
        evictions.push(...answer.evict.map(({ containerId }) => containerId));
      }
    });
    await this.#requests.evict(evictions);
    await this.#requests.update(result.updates);
    return { ...toKubelet(result.requested ?? requested.resources), oomScoreAdj: resources.oomScoreAdj };
  }

  /** Resources of a container have changed. */
  async postUpdateContainer(pod: Pod, container: NriContainer): Promise<void> {
    const { method } = PluginService;
    await this.#notify(Event.POST_UPDATE_CONTAINER, method.postUpdateContainer, { pod, container });
  }

  /** A container has ended, by whomever. Plugins are told once. @param pod - undefined when it is gone already. */
  async stopContainer(pod: Pod | undefined, container: NriContainer): Promise<void> {
    if (this.#known.get(container.id) !== "there") {
      return;
    }
    this.#known.set(container.id, "ended");
    if (this.#plugins.isEmpty) {
      return;
    }
    const result = new UpdateResult();
    const request = { pod: await this.#describePodOf(pod, container), container: await this.#describe(container) };
    await this.#plugins.each(async (plugin) => {
      const answer = await plugin.tell(Event.STOP_CONTAINER, PluginService.method.stopContainer, request);
      if (answer !== undefined) {
        result.apply(answer.update, plugin.name);
      }
    });
    await this.#requests.update(result.updates);
  }

  /** A container is gone. @param pod - undefined when it is gone already. */
  async removeContainer(pod: Pod | undefined, container: NriContainer): Promise<void> {
    if (!this.#known.has(container.id)) {
      return;
    }
    try {
      await this.stopContainer(pod, container);
    } catch (error) {
      this.#requests.warn(error);
    }
    this.#known.delete(container.id);
    await this.#notify(Event.REMOVE_CONTAINER, PluginService.method.removeContainer, { pod, container });
  }

  /** Lets all plugins go. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#plugins[Symbol.asyncDispose]();
  }

  async #notify(
    event: Event,
    method: Parameters<NriPlugin["notify"]>[1],
    { pod, container }: { readonly pod: Pod | undefined; readonly container?: NriContainer },
  ): Promise<void> {
    if (this.#plugins.isEmpty) {
      return;
    }
    const podMessage =
      container === undefined ? pod && (await this.#describePod(pod)) : await this.#describePodOf(pod, container);
    const request = {
      ...(podMessage === undefined ? {} : { pod: podMessage }),
      ...(container === undefined ? {} : { container: await this.#describe(container) }),
    };
    await this.#plugins.each((plugin) => plugin.notify(event, method, request));
  }

  async #each(act: (plugin: NriPlugin) => Promise<void>): Promise<void> {
    if (!this.#plugins.isEmpty) {
      await this.#plugins.each(act);
    }
  }

  async #describePod(pod: Pod): Promise<PodSandbox> {
    return describePod(pod, await this.#ports.specOfPod(pod.id));
  }

  async #describePodOf(pod: Pod | undefined, { podId }: NriContainer): Promise<PodSandbox> {
    return pod === undefined ? create(PodSandboxSchema, { id: podId }) : await this.#describePod(pod);
  }

  async #describe(container: NriContainer): Promise<Container> {
    return describeContainer(container, await this.#ports.specOf(container.id));
  }

  async #describeAll(): Promise<{ pods: PodSandbox[]; containers: Container[] }> {
    const { pods, containers } = this.#ports.list();
    for (const { id, state } of containers) {
      this.#known.set(id, state === ContainerState.CONTAINER_STOPPED ? "ended" : "there");
    }
    return {
      pods: await Promise.all(pods.map((pod) => this.#describePod(pod))),
      containers: await Promise.all(containers.map((container) => this.#describe(container))),
    };
  }
}
