import { ErrorKind, errorMessage, FlotillaError, systemErrorCode } from "#base/errors.ts";
import { RegistryError } from "./registry-error.ts";

/** The codes with which OpenSSL says that the other side does not speak TLS. */
const notTlsCodes: readonly string[] = [
  "ERR_SSL_WRONG_VERSION_NUMBER",
  "ERR_SSL_PACKET_LENGTH_TOO_LONG",
  "ERR_SSL_HTTP_REQUEST",
];

const unknownAuthorityCodes: readonly string[] = [
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
];

const cutCodes: readonly string[] = [
  "ECONNRESET",
  "EPIPE",
  "UND_ERR_SOCKET",
  "UND_ERR_RES_CONTENT_LENGTH_MISMATCH",
  "UND_ERR_ABORTED",
];

const unreachableCodes: readonly string[] = ["ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH"];

const closedCodes: readonly string[] = ["UND_ERR_DESTROYED", "UND_ERR_CLOSED"];

const silentCodes: readonly string[] = ["UND_ERR_HEADERS_TIMEOUT", "UND_ERR_BODY_TIMEOUT"];

/** Tells whether a connection failed because the host speaks plain HTTP where TLS was expected. */
export function isNotTls(error: unknown): boolean {
  return notTlsCodes.includes(systemErrorCode(error) ?? "");
}

/** Tells whether nobody listens on the host's port. */
export function isConnectionRefused(error: unknown): boolean {
  return systemErrorCode(firstOf(error)) === "ECONNREFUSED";
}

/** Tells whether a failure is that nobody is there, in which case asking again at once is no use. */
export function isUnreachable(error: unknown): boolean {
  return error instanceof RegistryError && unreachableCodes.includes(systemErrorCode(firstOf(error.cause)) ?? "");
}

/**
 * The failure of a connection in the words of Go's HTTP client, since clients look for some of them:
 * `connect: connection refused`, `server gave HTTP response to HTTPS client`, `certificate signed by unknown authority`.
 *
 * @param context - What was done to which URL.
 * @source nerdctl v2.3.5 pkg/errutil/errors_check.go; Go net, net/http, crypto/x509
 */
export function connectionError(thrown: unknown, context: string, url: URL, waitedMs: number): FlotillaError {
  if (thrown instanceof FlotillaError) {
    return thrown;
  }
  const error = firstOf(thrown);
  const code = systemErrorCode(error) ?? "";
  if (closedCodes.includes(code)) {
    // Our own doing: whoever used these connections has ended. It says nothing about the registry.
    return new FlotillaError(ErrorKind.Canceled, ErrorKind.Canceled, { cause: thrown });
  }
  const { text, isTransient } = explain(code, error, url, waitedMs);
  return new RegistryError(ErrorKind.Unknown, `${context}: ${text}`, { isTransient, cause: thrown });
}

function explain(code: string, error: unknown, url: URL, waitedMs: number): { text: string; isTransient: boolean } {
  if (code === "ECONNREFUSED") {
    return { text: `dial tcp ${addressOf(error, url)}: connect: connection refused`, isTransient: true };
  }
  if (code === "EHOSTUNREACH" || code === "ENETUNREACH") {
    const reason = code === "EHOSTUNREACH" ? "no route to host" : "network is unreachable";
    return { text: `dial tcp ${addressOf(error, url)}: connect: ${reason}`, isTransient: true };
  }
  if (code === "ENOTFOUND") {
    return { text: `dial tcp: lookup ${url.hostname}: no such host`, isTransient: false };
  }
  if (code === "EAI_AGAIN") {
    return { text: `dial tcp: lookup ${url.hostname}: Temporary failure in name resolution`, isTransient: true };
  }
  if (code === "UND_ERR_CONNECT_TIMEOUT" || code === "ETIMEDOUT") {
    return { text: `dial tcp ${addressOf(error, url)}: i/o timeout`, isTransient: true };
  }
  if (silentCodes.includes(code)) {
    const what = code === "UND_ERR_HEADERS_TIMEOUT" ? "timeout awaiting response headers" : "no data";
    return { text: `${what} for ${waitedMs / 1000}s: i/o timeout`, isTransient: true };
  }
  if (notTlsCodes.includes(code)) {
    return { text: "http: server gave HTTP response to HTTPS client", isTransient: false };
  }
  if (unknownAuthorityCodes.includes(code)) {
    const reason = "x509: certificate signed by unknown authority";
    return { text: `tls: failed to verify certificate: ${reason}`, isTransient: false };
  }
  if (code === "CERT_HAS_EXPIRED" || code === "CERT_NOT_YET_VALID") {
    const reason = "x509: certificate has expired or is not yet valid";
    return { text: `tls: failed to verify certificate: ${reason}`, isTransient: false };
  }
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID") {
    return { text: `tls: failed to verify certificate: x509: ${errorMessage(error)}`, isTransient: false };
  }
  if (cutCodes.includes(code)) {
    const reason = code === "ECONNRESET" ? "read: connection reset by peer" : "unexpected EOF";
    return { text: reason, isTransient: true };
  }
  return { text: errorMessage(error), isTransient: false };
}

/** Where several addresses of one host have been tried, the failure of the first. */
function firstOf(error: unknown): unknown {
  return error instanceof AggregateError && error.errors.length > 0 ? error.errors[0] : error;
}

function addressOf(error: unknown, url: URL): string {
  const { address, port } = (error ?? {}) as { readonly address?: unknown; readonly port?: unknown };
  if (typeof address === "string" && typeof port === "number") {
    return `${address.includes(":") ? `[${address}]` : address}:${port}`;
  }
  return url.port === "" ? `${url.hostname}:${url.protocol === "http:" ? "80" : "443"}` : url.host;
}
