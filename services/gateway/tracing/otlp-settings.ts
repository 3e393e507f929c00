import { readFileSync } from "node:fs";
import { ErrorKind, failure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** How a collector is reached by gRPC. */
export interface OtlpSettings {
  /** Path of a socket, or a host and a port. */
  readonly target: { readonly path: string } | { readonly host: string; readonly port: number };
  /** The name under which the collector is asked, with the port if one is given. */
  readonly authority: string;
  /** Undefined for a connection in the clear. */
  readonly tls: { readonly ca?: Buffer; readonly cert?: Buffer; readonly key?: Buffer } | undefined;
  /** Fields of every request, by their names. */
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly timeoutMs: number;
  readonly isCompressed: boolean;
}

/** @source OpenTelemetry specification, OTLP exporter configuration: port of OTLP/gRPC */
const defaultPort = 4317;
/** @source OpenTelemetry specification, OTLP exporter configuration */
const defaultTimeoutMs = 10_000;

/**
 * Reads how traces go to a collector by gRPC. What is said of traces alone goes before what is said of everything.
 *
 * @throws {@link FlotillaError} `invalid_argument` for an endpoint, a time or a compression that makes no sense; the error of `node:fs` for a file that can't be read.
 * @source OpenTelemetry specification, OTLP exporter configuration
 */
export function readOtlpSettings(environment: Environment): OtlpSettings {
  const get = (name: string): string =>
    environment[`OTEL_EXPORTER_OTLP_TRACES_${name}`] || environment[`OTEL_EXPORTER_OTLP_${name}`] || "";
  const endpoint = get("ENDPOINT");
  const isInsecure = /^true$/i.test(get("INSECURE"));
  const url = /^[a-z]+:\/\//i.test(endpoint) ? endpoint : `${isInsecure ? "http" : "https"}://${endpoint}`;
  if (!URL.canParse(url)) {
    throw failure(ErrorKind.InvalidArgument, `OTLP endpoint ${quote(endpoint)} is no URL`);
  }
  const { protocol, hostname, host, port, pathname } = new URL(url);
  const compression = get("COMPRESSION");
  if (!["", "none", "gzip"].includes(compression)) {
    throw failure(ErrorKind.InvalidArgument, `OTLP compression ${quote(compression)} is neither gzip nor none`);
  }
  const timeoutMs = Number(get("TIMEOUT") || defaultTimeoutMs);
  if (!(timeoutMs > 0)) {
    throw failure(ErrorKind.InvalidArgument, `OTLP timeout ${quote(get("TIMEOUT"))} is no number of milliseconds`);
  }
  const common = {
    headers: [
      ...pairsOf(environment["OTEL_EXPORTER_OTLP_HEADERS"] ?? ""),
      ...pairsOf(environment["OTEL_EXPORTER_OTLP_TRACES_HEADERS"] ?? ""),
    ],
    timeoutMs,
    isCompressed: compression === "gzip",
  };
  switch (protocol) {
    case "unix:":
      return { ...common, target: { path: pathname }, authority: "localhost", tls: undefined };
    case "http:":
    case "https:": {
      // URL leaves the port out where it is the usual one of the scheme.
      const usual = /:(80|443)\/?$/.exec(endpoint)?.[1];
      const target = { host: hostname.replace(/^\[|\]$/g, ""), port: Number(port || usual || defaultPort) };
      const files = { ca: get("CERTIFICATE"), cert: get("CLIENT_CERTIFICATE"), key: get("CLIENT_KEY") };
      const read = Object.entries(files).flatMap(([name, path]) => (path === "" ? [] : [[name, readFileSync(path)]]));
      return { ...common, target, authority: host, tls: protocol === "http:" ? undefined : Object.fromEntries(read) };
    }
    default:
      throw failure(ErrorKind.InvalidArgument, `OTLP endpoint ${quote(endpoint)} is neither http, https nor unix`);
  }
}

/** @source W3C Baggage, header format, which the specification of OTLP takes for headers */
function pairsOf(text: string): [string, string][] {
  return text.split(",").flatMap((pair): [string, string][] => {
    const [, name = "", value = ""] = /^([^=]*)=(.*)$/s.exec(pair) ?? [];
    return name.trim() === "" ? [] : [[name.trim().toLowerCase(), decoded(value.trim())]];
  });
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
