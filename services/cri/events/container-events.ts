import { create } from "@bufbuild/protobuf";
import { wallClock } from "#base/times.ts";
import {
  type ContainerEventResponse,
  ContainerEventResponseSchema,
  type ContainerEventType,
  type ContainerStatus,
  type PodSandboxStatus,
} from "#gen/runtime/v1/api_pb.ts";
import { EventFeed } from "./event-feed.ts";

/** What is told of a pod beside the event: its state at that time. */
export interface PodStates {
  /** State of a pod and of its containers; undefined and none once it is gone. */
  describe(podId: string): {
    readonly pod: PodSandboxStatus | undefined;
    readonly containers: readonly ContainerStatus[];
  };
}

/**
 * What happens to pods and containers, for the kubelet that would rather be told than ask.
 *
 * @source containerd v2.3.4 internal/cri/server/helpers.go `generateAndSendContainerEvent`
 */
export class ContainerEvents {
  readonly #feed = new EventFeed<ContainerEventResponse>();
  readonly #states: PodStates;

  constructor(states: PodStates) {
    this.#states = states;
  }

  /** Tells of something that has happened. @param containerId - That of the pod for what happened to the pod itself. */
  publish(containerId: string, podId: string, type: ContainerEventType): void {
    const { pod, containers } = this.#states.describe(podId);
    this.#feed.publish(
      create(ContainerEventResponseSchema, {
        containerId,
        containerEventType: type,
        createdAt: wallClock(),
        ...(pod === undefined ? {} : { podSandboxStatus: pod }),
        containersStatuses: [...containers],
      }),
    );
  }

  /** How many events nobody has taken in time. */
  get dropped(): number {
    return this.#feed.dropped;
  }

  /**
   * What happens from now on, until the signal aborts.
   *
   * @throws {@link FlotillaError} `resource_exhausted` when the subscriber is too slow.
   */
  subscribe(signal: AbortSignal): AsyncIterable<ContainerEventResponse> {
    return this.#feed.subscribe(signal);
  }
}
