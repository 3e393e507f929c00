import type { HttpRequest, HttpResponse } from "./http-message.ts";
import { safeUrl } from "./safe-url.ts";

/** Headers that let somebody in. */
const secretHeaders: readonly string[] = ["authorization", "proxy-authorization", "cookie", "set-cookie"];
/** Headers of the distribution protocol and of HTTP that are told as they are; others may be anybody's secret. */
const openHeaders: readonly string[] = [
  "accept",
  "accept-encoding",
  "accept-ranges",
  "content-encoding",
  "content-length",
  "content-range",
  "content-type",
  "date",
  "docker-content-digest",
  "docker-distribution-api-version",
  "docker-upload-uuid",
  "etag",
  "last-modified",
  "link",
  "oci-chunk-min-length",
  "oci-filters-applied",
  "oci-subject",
  "range",
  "ratelimit-limit",
  "ratelimit-remaining",
  "retry-after",
  "server",
  "user-agent",
  "warning",
  "www-authenticate",
];

type Headers = HttpResponse["headers"] | HttpRequest["headers"];

/** A request as people who look for an error see it: without secrets and without its body. */
export function describeRequest({ method, url, headers }: HttpRequest): string {
  return `${method} ${safeUrl(url)}\n${describeHeaders(headers, url)}`;
}

/** An answer as people who look for an error see it: without secrets and without its body. */
export function describeResponse({ status, statusText, headers, url }: HttpResponse): string {
  return `HTTP ${status} ${statusText}\n${describeHeaders(headers, url)}`;
}

function describeHeaders(headers: Headers, base: URL): string {
  return Object.entries(headers)
    .flatMap(([name, values]) =>
      (typeof values === "string" ? [values] : (values ?? [])).map(
        (value: string) => `${name}: ${describeValue(name, value, base)}\n`,
      ),
    )
    .join("");
}

function describeValue(name: string, value: string, base: URL): string {
  if (secretHeaders.includes(name)) {
    return `${/^(?:basic|bearer) /i.exec(value)?.[0] ?? ""}REDACTED`;
  }
  if (name === "location") {
    return URL.canParse(value, base) ? safeUrl(new URL(value, base)) : "REDACTED";
  }
  return openHeaders.includes(name) ? value : "REDACTED";
}
