import { daemonVersion } from "#fleet/version.ts";
import type { RuntimeService } from "#gen/runtime/v1/api_pb.ts";
import type { Handlers } from "#wire/handler.ts";

/** Names the runtime as containerd names itself. @source containerd v2.3.4 internal/cri/server/version.go */
export const versionCall = {
  version: () => ({
    version: "0.1.0",
    runtimeName: "containerd",
    runtimeVersion: daemonVersion(),
    runtimeApiVersion: "v1",
  }),
} satisfies Pick<Handlers<typeof RuntimeService>, "version">;
