import type { ContainerEventType } from "#gen/runtime/v1/api_pb.ts";

/** Who is told of what happens to containers. */
export interface ContainerEventSink {
  publish(containerId: string, podId: string, type: ContainerEventType): void;
}
