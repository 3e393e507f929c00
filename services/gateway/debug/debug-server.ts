import { once } from "node:events";
import http from "node:http";
import type net from "node:net";
import { gzipSync } from "node:zlib";
import { ErrorKind, errorMessage, FlotillaError } from "#base/errors.ts";
import type { PluginSettings } from "#config/settings.ts";
import type { Logger } from "#fleet/log.ts";
import type { ProcessName } from "#fleet/process-name.ts";
import { listen } from "#wire/listen.ts";
import { parseTcpAddress } from "../sockets/tcp-address.ts";
import type { FleetState } from "./fleet-state.ts";

/** Those who debug at a time, which are few. */
const connectionsMax = 64;
/** How long a profile is where nobody says. @source Go 1.26 net/http/pprof `Profile` */
const secondsDefault = 30;
/** Of the heap a profile can only show what is allocated while it is made. */
const heapSecondsDefault = 5;

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: string | Buffer;
  readonly fileName?: string;
}

/**
 * Serves what containerd serves on its debug socket, of each process of the fleet: its state, and profiles of its time and its heap.
 *
 * @throws Error in containerd's words when the address can't be had.
 * @source containerd v2.3.4 plugins/server/debug, internal/pprof; Go 1.26 net/http/pprof, expvar
 */
export async function serveDebug(settings: PluginSettings, state: FleetState, log: Logger): Promise<http.Server> {
  const server = http.createServer((request, response) => {
    const gone = new AbortController();
    response.once("close", () => gone.abort());
    answerTo(request, state, gone.signal).then(
      (answer) => send(response, answer),
      (error: unknown) => {
        const isAsked = error instanceof FlotillaError && error.kind === ErrorKind.InvalidArgument;
        send(response, text(isAsked ? 400 : 500, errorMessage(error)));
      },
    );
  });
  server.maxConnections = connectionsMax;
  const address = settings.string("address");
  try {
    if (address.startsWith("/")) {
      const owner = { uid: settings.integer("uid"), gid: settings.integer("gid") };
      const sockets = await listen({ socketPath: address, owner, connectionsMax }, (socket: net.Socket) => {
        server.emit("connection", socket);
      });
      server.once("close", () => sockets.close());
      // Closed with the server, which listens to nothing itself.
      server.close = (callback) => {
        sockets.close(callback);
        return server;
      };
    } else {
      server.listen(parseTcpAddress(address));
      await once(server, "listening");
    }
  } catch (error) {
    throw new Error(`failed to get listener for debug endpoint: ${errorMessage(error)}`, { cause: error });
  }
  log.info({ address }, "debugging is served");
  return server;
}

async function answerTo(request: http.IncomingMessage, state: FleetState, gone: AbortSignal): Promise<Answer> {
  const url = new URL(request.url ?? "/", "http://localhost");
  const query = url.searchParams;
  switch (url.pathname) {
    case "/debug/vars":
      return json({ cmdline: process.argv, memstats: process.memoryUsage(), processes: await state.all() });
    case "/debug/pprof/":
    case "/debug/pprof":
      return { status: 200, type: "text/html; charset=utf-8", body: indexPage(state.names) };
    case "/debug/pprof/cmdline":
      return text(200, process.argv.join("\0"), "");
    case "/debug/pprof/symbol":
      return text(200, "num_symbols: 1");
    case "/debug/pprof/profile":
      return await profileOf("cpu", query, state, gone);
    case "/debug/pprof/heap":
    case "/debug/pprof/allocs":
      return await profileOf("heap", query, state, gone);
    case "/debug/pprof/goroutine":
      return text(200, JSON.stringify(await state.all(), undefined, 2));
    default:
      return url.pathname.startsWith("/debug/pprof/")
        ? text(
            404,
            "Unknown profile: a process of the fleet has cpu (profile) and heap, and tells its state as goroutine",
          )
        : text(404, "404 page not found");
  }
}

async function profileOf(
  kind: "cpu" | "heap",
  query: URLSearchParams,
  state: FleetState,
  gone: AbortSignal,
): Promise<Answer> {
  const name = query.get("process") ?? "gateway";
  const known = state.names.find((each) => each === name);
  if (known === undefined) {
    throw new FlotillaError(ErrorKind.InvalidArgument, `there is no process ${name}: ${state.names.join(", ")}`);
  }
  const seconds = Number(query.get("seconds") ?? (kind === "cpu" ? secondsDefault : heapSecondsDefault));
  const format = query.get("format") ?? "pprof";
  const pieces = await Array.fromAsync(state.profile(known, { kind, seconds, format }, gone));
  const bytes = Buffer.concat(pieces);
  return format === "pprof"
    ? { status: 200, type: "application/octet-stream", body: gzipSync(bytes), fileName: kind }
    : { status: 200, type: "application/json", body: bytes, fileName: `${known}.${kind}profile` };
}

function indexPage(names: readonly ProcessName[]): string {
  const rows = names.map((name) => {
    const link = (profile: string, more = ""): string =>
      `<a href="/debug/pprof/${profile}?process=${name}${more}">${profile}</a>`;
    return `<li>${name}: ${link("profile", "&seconds=10")} ${link("heap")}</li>`;
  });
  const how = "?process=NAME, &amp;seconds=N, &amp;format=pprof (go tool pprof) or v8 (Chrome's developer tools)";
  return `<html><head><title>/debug/pprof/</title></head><body>/debug/pprof/<ul>${rows.join("")}</ul><p>${how}</p>
<a href="/debug/pprof/goroutine?debug=2">state of the fleet</a></body></html>\n`;
}

function text(status: number, body: string, end = "\n"): Answer {
  return { status, type: "text/plain; charset=utf-8", body: `${body}${end}` };
}

function json(value: unknown): Answer {
  return { status: 200, type: "application/json; charset=utf-8", body: `${JSON.stringify(value)}\n` };
}

function send(response: http.ServerResponse, { status, type, body, fileName }: Answer): void {
  response.writeHead(status, {
    "content-type": type,
    "content-length": Buffer.byteLength(body),
    "x-content-type-options": "nosniff",
    ...(fileName === undefined ? {} : { "content-disposition": `attachment; filename="${fileName}"` }),
  });
  response.end(body);
}
