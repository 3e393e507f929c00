import type { Version } from "#gen/containerd/services/version/v1/version_pb.ts";
import { daemonRevision, daemonVersion } from "#kernel/version.ts";
import type { Handlers } from "#rpc/handler.ts";

/** Answers `containerd.services.version.v1.Version`. */
export function versionHandlers(): Handlers<typeof Version> {
  const answer = { version: daemonVersion(), revision: daemonRevision() };
  return { version: () => answer };
}
