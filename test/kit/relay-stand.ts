import { once } from "node:events";
import net from "node:net";
import { dial } from "#wire/http2/reusing-socket.ts";
import type { CallObserver } from "#wire/observe.ts";
import { serveRpc } from "#wire/server.ts";
import { Relay, type RelayRoutes } from "../../services/gateway/relay/relay.ts";
import type { RelayCounts } from "../../services/gateway/relay/relay-counts.ts";
import { bindEcho, type EchoHandlers, echoPath, echoRoutes, plainEcho } from "./echo-service.ts";
import { grpcRequest, headers, RawConnection, RawServer, Type } from "./raw-http2.ts";
import { makeTemporaryDirectory } from "./temporary-directory.ts";

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
  readonly observer?: CallObserver;
  readonly counts?: RelayCounts;
  socketOf(upstream: string): string;
}): Promise<ListeningRelay> {
  const warnings: string[] = [];
  const relay = new Relay({
    routes: options.routes,
    heldMsMax: options.heldMsMax,
    ...(options.observer === undefined ? {} : { observer: options.observer }),
    ...(options.counts === undefined ? {} : { counts: options.counts }),
    connectUpstream: (upstream) => dial(options.socketOf(upstream)),
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

/** A relay between sockets in a directory of its own, with the echo service behind it. */
export interface RelayStand extends AsyncDisposable {
  /** Where clients connect. */
  readonly socketPath: string;
  /** Where the process `echo` is to listen. */
  readonly servicePath: string;
  readonly relay: ListeningRelay;
}

/** Opens a relay whose only process is `echo`. */
export async function buildRelayStand(
  options: { readonly heldMsMax?: number; readonly observer?: CallObserver; readonly counts?: RelayCounts } = {},
): Promise<RelayStand> {
  const directory = await makeTemporaryDirectory("relay");
  const socketPath = `${directory.path}/front.sock`;
  const servicePath = `${directory.path}/echo.sock`;
  const relay = await listenRelay({
    heldMsMax: 10_000,
    ...options,
    socketPath,
    routes: echoRoutes("echo"),
    socketOf: () => servicePath,
  });
  return {
    socketPath,
    servicePath,
    relay,
    [Symbol.asyncDispose]: async () => {
      await relay.close(0);
      await directory[Symbol.asyncDispose]();
    },
  };
}

/** Serves the echo service where the relay of a stand expects it, until it is disposed of. */
export async function serveEcho(stand: RelayStand, handlers: EchoHandlers = plainEcho): Promise<AsyncDisposable> {
  const server = await serveRpc({
    socketPath: stand.servicePath,
    services: [bindEcho(handlers)],
  });
  return { [Symbol.asyncDispose]: () => server.close(0) };
}

/** The two ends of one stream that the relay carries, each in the hands of the test. */
export interface OpenStream extends AsyncDisposable {
  readonly stand: RelayStand;
  readonly client: RawConnection;
  readonly service: RawConnection;
}

/**
 * Opens stream 1 of the method `chat` through a relay, with the headers of the request at the service.
 *
 * @param settings - What each end advertises.
 */
export async function openStream(settings: {
  readonly client?: Readonly<Record<number, number>>;
  readonly service?: Readonly<Record<number, number>>;
}): Promise<OpenStream> {
  const stand = await buildRelayStand();
  const server = await RawServer.listen(stand.servicePath, { settings: settings.service ?? {} });
  const client = await RawConnection.open(stand.socketPath, settings.client);
  client.send(headers(1, grpcRequest(echoPath("chat"))));
  const service = await server.accept();
  await service.nextOf(Type.HEADERS, 1);
  await service.roundTrip();
  return {
    stand,
    client,
    service,
    [Symbol.asyncDispose]: async () => {
      client.close();
      await server[Symbol.asyncDispose]();
      await stand[Symbol.asyncDispose]();
    },
  };
}
