import type { PodSandboxConfig } from "#gen/runtime/v1/api_pb.ts";
import { isMatch } from "./path-pattern.ts";

/** Keys of annotations by which runtimes and hooks know what a container is. @source containerd v2.3.4 internal/cri/annotations/annotations.go */
export const annotationKeys = {
  containerType: "io.kubernetes.cri.container-type",
  sandboxId: "io.kubernetes.cri.sandbox-id",
  sandboxNamespace: "io.kubernetes.cri.sandbox-namespace",
  sandboxUid: "io.kubernetes.cri.sandbox-uid",
  sandboxName: "io.kubernetes.cri.sandbox-name",
  sandboxLogDirectory: "io.kubernetes.cri.sandbox-log-directory",
  sandboxImageName: "io.kubernetes.cri.podsandbox.image-name",
  containerName: "io.kubernetes.cri.container-name",
  imageName: "io.kubernetes.cri.image-name",
} as const;

/** Annotations that every container of a pod carries. @source containerd v2.3.4 internal/cri/annotations/annotations.go `DefaultCRIAnnotations` */
export function containerAnnotations(
  {
    sandboxId,
    containerName,
    imageName,
  }: { readonly sandboxId: string; readonly containerName: string; readonly imageName: string },
  pod: PodSandboxConfig,
): Record<string, string> {
  return {
    ...podAnnotations(sandboxId, pod),
    [annotationKeys.containerName]: containerName,
    [annotationKeys.imageName]: imageName,
    [annotationKeys.containerType]: "container",
  };
}

/** Annotations of the container that keeps a pod's namespaces. @source containerd v2.3.4 internal/cri/annotations/annotations.go `DefaultCRIAnnotations` */
export function sandboxAnnotations(
  { sandboxId, imageName }: { readonly sandboxId: string; readonly imageName: string },
  pod: PodSandboxConfig,
): Record<string, string> {
  return {
    ...podAnnotations(sandboxId, pod),
    [annotationKeys.sandboxLogDirectory]: pod.logDirectory,
    [annotationKeys.sandboxImageName]: imageName,
    [annotationKeys.containerType]: "sandbox",
  };
}

function podAnnotations(sandboxId: string, { metadata }: PodSandboxConfig): Record<string, string> {
  return {
    [annotationKeys.sandboxId]: sandboxId,
    [annotationKeys.sandboxNamespace]: metadata?.namespace ?? "",
    [annotationKeys.sandboxUid]: metadata?.uid ?? "",
    [annotationKeys.sandboxName]: metadata?.name ?? "",
  };
}

/**
 * The annotations that a runtime is told of: those whose keys one of its patterns fits.
 *
 * @source containerd v2.3.4 internal/cri/util/util.go `GetPassthroughAnnotations`
 */
export function passedAnnotations(
  annotations: Readonly<Record<string, string>>,
  patterns: readonly string[],
): Record<string, string> {
  return Object.fromEntries(
    Object.entries(annotations).filter(([key]) => patterns.some((pattern) => isMatch(pattern, key))),
  );
}
