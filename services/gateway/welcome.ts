import { type FleetConfig, pluginRoot } from "#config/config.ts";

/** What somebody who started the daemon by hand may type next. */
export function welcomeText({ grpc, root }: FleetConfig): string {
  return `
Flotilla is ready on ${grpc.address}. In another shell, as root, try:

  ctr -a ${grpc.address} version
  ctr -a ${grpc.address} plugins ls
  curl --unix-socket ${grpc.address} -H 'content-type: application/json' -d '{}' \\
    http://localhost/containerd.services.version.v1.Version/Version
  ctr -a ${grpc.address} events

Any NATS client reads the events too: the URL is in
${pluginRoot({ root }, "io.flotilla.events.v1.nats")}/subscriber.url, the subject 'containerd.>'.
Ctrl-C stops the daemon; containers go on running.

`;
}
