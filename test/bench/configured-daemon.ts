import { writeFile } from "node:fs/promises";
import { serveRpc } from "#wire/server.ts";
import { makeCertificate } from "../kit/certificates.ts";
import { type Daemon, startContainerd, startFlotilla } from "../kit/daemon.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";
import { startTraceCollector } from "../kit/trace-collector.ts";
import type { Side } from "./measurement.ts";

/** A daemon with what it can do switched on, and what that talks to. */
export interface ConfiguredDaemon extends AsyncDisposable {
  readonly daemon: Daemon;
}

const policy = `version = 1

[[rules]]
name = "root"
users = ["root"]
access = "full"
`;

/**
 * Starts one side with everything on that nobody has to use for it to be there: metrics with durations, the debug socket, proxy plugins, and the kubelet's
 * API; and ours also with TCP and TLS, a policy and an audit, traces, and plugins of NRI. What containerd has of the latter is on of
 * its own or needs settings that the stand does not make. The monitors of restarts and of cgroups are always on.
 */
export async function startConfigured(side: Side): Promise<ConfiguredDaemon> {
  await using resources = new AsyncDisposableStack();
  const { path } = resources.use(await makeTemporaryDirectory("configured"));
  const proxy = await serveRpc({ socketPath: `${path}/proxy.sock`, services: [] });
  resources.defer(() => proxy.close(0));
  // containerd 1.6 ends when it is given a type that it does not know.
  const proxies = (side === "containerd" ? ["snapshot"] : ["snapshot", "diff", "sandbox"])
    .map((type) => `[proxy_plugins.far-${type}]\ntype = "${type}"\naddress = "${path}/proxy.sock"\n`)
    .join("");
  const daemon = resources.use(
    side === "containerd"
      ? await startContainerd({
          cri: true,
          config: `${proxies}[metrics]\naddress = "127.0.0.1:0"\ngrpc_histogram = true\n[debug]\naddress = "${path}/debug.sock"\n`,
        })
      : await startFlotilla({
          cri: true,
          env: {
            OTEL_EXPORTER_OTLP_ENDPOINT: resources.use(await startTraceCollector()).endpoint,
            OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf",
          },
          config: `${proxies}${await settingsOf(path)}`,
        }),
  );
  const owned = resources.move();
  return { daemon, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

async function settingsOf(path: string): Promise<string> {
  const { certificatePath, keyPath } = await makeCertificate(path, "server");
  await writeFile(`${path}/policy.toml`, policy);
  return `[plugins."io.containerd.server.v1.metrics"]
address = "127.0.0.1:0"
[plugins."io.containerd.metrics.v1.grpc-prometheus"]
grpc_histogram = true
[plugins."io.containerd.server.v1.debug"]
address = "${path}/debug.sock"
[plugins."io.containerd.server.v1.grpc-tcp"]
address = "127.0.0.1:0"
tls_cert = "${certificatePath}"
tls_key = "${keyPath}"
tls_ca = "${certificatePath}"
[plugins."io.flotilla.fleet.v1.access"]
policy = "${path}/policy.toml"
audit_log = "${path}/audit.log"
[plugins."io.containerd.nri.v1.nri"]
socket_path = "${path}/nri.sock"
`;
}
