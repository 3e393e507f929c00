import { once } from "node:events";
import net from "node:net";
import { Relay, type RelayRoutes } from "../../services/gateway/relay/relay.ts";

/** A relay that listens, for tests. */
export interface ListeningRelay {
  /** What the relay warned of so far. */
  readonly warnings: readonly string[];
  close(drainMs: number): Promise<void>;
}

/** Opens a relay on a socket. */
export async function listenRelay(options: {
  readonly socketPath: string;
  readonly routes: RelayRoutes;
  readonly heldMsMax: number;
  socketOf(upstream: string): string;
}): Promise<ListeningRelay> {
  const warnings: string[] = [];
  const relay = new Relay({
    routes: options.routes,
    heldMsMax: options.heldMsMax,
    connectUpstream: (upstream) => net.connect(options.socketOf(upstream)),
    onWarning: (fields, message) => warnings.push(`${message}: ${"err" in fields ? String(fields.err) : ""}`),
  });
  const server = net.createServer((socket) => relay.handleConnection(socket));
  server.listen(options.socketPath);
  await once(server, "listening");
  return {
    warnings,
    close: async (drainMs) => {
      server.close();
      await relay.close(drainMs);
    },
  };
}
