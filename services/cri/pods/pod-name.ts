import type { PodSandboxMetadata } from "#gen/runtime/v1/api_pb.ts";

/** What a pod is called on this machine. @source containerd v2.3.4 internal/cri/server/helpers.go `makeSandboxName` */
export function podName({ name, namespace, uid, attempt }: PodSandboxMetadata): string {
  return [name, namespace, uid, attempt].join("_");
}
