import { pluginUri } from "#config/manifest.ts";
import type { ProcessContext, ProcessParts } from "#fleet/run.ts";
import { RuntimeService } from "#gen/runtime/v1/api_pb.ts";
import { bindService } from "#wire/handler.ts";
import { type CriSettings, readCriSettings } from "./config.ts";
import { Gate } from "./rpc/gate.ts";
import { runtimePlugin } from "./runtime-plugin.ts";
import { serverPlugin } from "./server-plugin.ts";
import { runtimeConfigCall } from "./status/runtime-config-call.ts";
import { versionCall } from "./status/version-call.ts";

/** Puts the process of the kubelet's API together. */
export function composeCri(context: ProcessContext): ProcessParts {
  const { config } = context;
  const gate = new Gate();
  let settings: CriSettings | undefined;
  return {
    plugins: [
      {
        manifest: runtimePlugin,
        init: () => {
          settings = readCriSettings(config);
          return undefined;
        },
      },
      {
        manifest: serverPlugin,
        init: () => {
          if (settings === undefined) {
            throw new Error(`plugin ${pluginUri(runtimePlugin)} is not loaded`);
          }
          const handlers = { ...versionCall, ...runtimeConfigCall(settings) };
          return { services: [bindService(RuntimeService, gate.guard(handlers))] };
        },
      },
    ],
    onReady: () => gate.open(),
  };
}
