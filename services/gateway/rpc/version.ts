import { daemonRevision, daemonVersion } from "#fleet/version.ts";
import type { Version } from "#gen/containerd/services/version/v1/version_pb.ts";
import type { Handlers } from "#wire/handler.ts";

/** Answers `containerd.services.version.v1.Version`. */
export function versionHandlers(): Handlers<typeof Version> {
  const answer = { version: daemonVersion(), revision: daemonRevision() };
  return { version: () => answer };
}
