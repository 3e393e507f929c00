import type { Duplex } from "node:stream";
import { ErrorKind, failure } from "#base/errors.ts";
import type { ServiceBinding } from "../handler.ts";
import { type ListenOptions, listen } from "../listen.ts";
import { collectMethods } from "./methods.ts";
import { ServerConnection, type ServerConnectionOptions } from "./server-connection.ts";

/** How many connections a server keeps unless the options say otherwise: one for each shim, and room. */
const connectionsMaxDefault = 8192;
const socketModeDefault = 0o600;

/** How to serve. The socket is for its owner alone unless a mode is given: the user of a peer is not asked for. */
export interface TtrpcServerOptions extends ListenOptions, ServerConnectionOptions {
  /** Unary methods are served; others answer UNIMPLEMENTED. */
  readonly services: readonly ServiceBinding[];
}

/** A listening server. */
export interface TtrpcServer {
  /**
   * Takes no new connection, closes each connection when its running calls have been answered, and ends those
   * that take longer.
   *
   * @param drainMs - How long running calls may take.
   */
  close(drainMs: number): Promise<void>;
}

/**
 * Serves bound services by ttrpc on a connection that is there already, and which it takes over, until it ends.
 *
 * @param services - Unary methods are served; others answer UNIMPLEMENTED.
 */
export function serveTtrpcOver(
  connection: Duplex,
  services: readonly ServiceBinding[],
  options: ServerConnectionOptions = {},
): ServerConnection {
  return new ServerConnection(connection, collectMethods(services), options);
}

/**
 * Serves bound services on a Unix socket by ttrpc.
 *
 * `call.header("containerd-namespace")` also finds ttrpc's own name of that header, so the same handlers serve gRPC.
 * Bytes that are not ttrpc close their connection.
 *
 * @source containerd/ttrpc PROTOCOL.md; server.go and services.go for statuses of malformed requests
 */
export async function serveTtrpc(options: TtrpcServerOptions): Promise<TtrpcServer> {
  const methods = collectMethods(options.services);
  const connections = new Set<ServerConnection>();
  const listening = {
    ...options,
    socketMode: options.socketMode ?? socketModeDefault,
    connectionsMax: options.connectionsMax ?? connectionsMaxDefault,
  };
  const server = await listen(listening, (socket) => {
    const connection = new ServerConnection(socket, methods, options);
    connections.add(connection);
    socket.once("close", () => connections.delete(connection));
  });

  return {
    async close(drainMs) {
      const drained = new Promise<void>((resolve) => {
        server.close(() => resolve());
      });
      for (const connection of connections) {
        connection.closeWhenIdle();
      }
      const deadline = setTimeout(() => {
        for (const connection of connections) {
          connection.destroy(failure(ErrorKind.Unavailable, "the process is stopping"));
        }
      }, drainMs);
      await drained;
      clearTimeout(deadline);
    },
  };
}
