import { once } from "node:events";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { errorMessage } from "#base/errors.ts";
import type { Logger } from "#fleet/log.ts";
import { parseTcpAddress } from "../sockets/tcp-address.ts";
import { textContentType } from "./text-format.ts";

/** Where Prometheus scrapes. @source containerd v2.3.4 plugins/server/metrics/metrics.go */
const metricsPath = "/v1/metrics";
/** Those who scrape at a time, which are few. */
const connectionsMax = 256;
const requestMsMax = 30_000;

export interface MetricsServerOptions {
  /** Address of TCP. */
  readonly address: string;
  readonly log: Logger;
  /** The figures, as they are to be sent. */
  readonly text: () => Promise<string>;
}

/**
 * Serves figures over HTTP.
 *
 * @throws {@link FlotillaError} `invalid_argument` for an address that is none; Error in containerd's words when it can't be had.
 */
export async function serveMetrics({ address, log, text }: MetricsServerOptions): Promise<http.Server> {
  const server = http.createServer({ requestTimeout: requestMsMax }, (request, response) => {
    const path = (request.url ?? "").split("?")[0];
    if (path !== metricsPath) {
      answer(response, 404, "text/plain; charset=utf-8", "404 page not found\n");
    } else if (request.method !== "GET" && request.method !== "HEAD") {
      answer(response, 405, "text/plain; charset=utf-8", "method not allowed\n");
    } else {
      text().then(
        (figures) => answer(response, 200, textContentType, figures),
        (error: unknown) => {
          log.error({ err: error }, "figures can't be gathered");
          answer(response, 500, "text/plain; charset=utf-8", `${errorMessage(error)}\n`);
        },
      );
    }
  });
  server.maxConnections = connectionsMax;
  server.listen(parseTcpAddress(address));
  try {
    await once(server, "listening");
  } catch (error) {
    throw new Error(`failed to get listener for metrics endpoint: ${errorMessage(error)}`, { cause: error });
  }
  const { port } = server.address() as AddressInfo;
  log.info({ address, port }, "metrics are served");
  return server;
}

function answer(response: http.ServerResponse, status: number, type: string, body: string): void {
  response.writeHead(status, { "content-type": type, "content-length": Buffer.byteLength(body) });
  response.end(body);
}
