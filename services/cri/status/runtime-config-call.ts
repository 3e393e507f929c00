import { existsSync } from "node:fs";
import { CgroupDriver, type RuntimeService } from "#gen/runtime/v1/api_pb.ts";
import type { Handlers } from "#wire/handler.ts";
import type { CriSettings } from "../config.ts";

/** Tells the kubelet what it has to adapt to. @source containerd v2.3.4 internal/cri/server/runtime_config_linux.go */
export function runtimeConfigCall(
  settings: Pick<CriSettings, "runtimes" | "defaultRuntimeName">,
): Pick<Handlers<typeof RuntimeService>, "runtimeConfig"> {
  return { runtimeConfig: () => ({ linux: { cgroupDriver: cgroupDriver(settings) } }) };
}

/** The driver of the first runtime that has one, the default runtime coming first; where none has, systemd's if it runs. */
function cgroupDriver({
  runtimes,
  defaultRuntimeName,
}: Pick<CriSettings, "runtimes" | "defaultRuntimeName">): CgroupDriver {
  const rest = [...runtimes.keys()].filter((name) => name !== defaultRuntimeName).sort();
  for (const name of [defaultRuntimeName, ...rest]) {
    const systemd = runtimes.get(name)?.systemdCgroup;
    if (systemd !== undefined) {
      return systemd ? CgroupDriver.SYSTEMD : CgroupDriver.CGROUPFS;
    }
  }
  // As sd_booted(3) tells.
  return existsSync("/run/systemd/system") ? CgroupDriver.SYSTEMD : CgroupDriver.CGROUPFS;
}
