import type { ContainerConfig, LinuxContainerResources } from "#gen/runtime/v1/api_pb.ts";
import type { Container } from "../store/container.ts";
import type { Pod } from "../store/pod.ts";
import type { OciSpec } from "./spec/oci-spec.ts";

/** A container that is about to be made. */
export interface NewContainer {
  readonly id: string;
  readonly pod: Pod;
  readonly config: ContainerConfig;
}

/** Who is told of containers, may change them and may object. @source containerd v2.3.4 internal/cri/nri/nri_api_linux.go */
export interface ContainerObservers {
  /** Does something that those who come to observe must see all of or nothing. */
  during<T>(act: () => Promise<T>): Promise<T>;
  /** A container is about to be made. @param spec - May be changed. @throws What keeps it from being made. */
  create(container: NewContainer, spec: OciSpec): Promise<void>;
  /** It could not be made after all. Never rejects. */
  undoCreate(container: NewContainer): Promise<void>;
  /** It has been made. Never rejects, as whatever tells of what has happened. */
  created(container: Container): Promise<void>;
  /** @throws What keeps it from being started. */
  start(container: Container): Promise<void>;
  started(container: Container): Promise<void>;
  /** Its limits are about to be changed. @returns What they are to be. @throws What keeps them from being changed. */
  update(container: Container, resources: LinuxContainerResources): Promise<LinuxContainerResources>;
  updated(container: Container): Promise<void>;
  /** It has ended; told once, however often it is said. */
  stopped(container: Container): Promise<void>;
  removed(container: Container): Promise<void>;
}
