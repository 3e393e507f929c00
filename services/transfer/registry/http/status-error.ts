import { STATUS_CODES } from "node:http";
import { ErrorKind } from "#base/errors.ts";
import type { HttpResponse } from "./http-message.ts";
import { readBounded } from "./read-bounded.ts";
import { RegistryError } from "./registry-error.ts";
import { readRetryAfter } from "./retry-after.ts";
import { safeUrl } from "./safe-url.ts";

/** @source containerd v2.3.4 core/remotes/errors/errors.go `NewUnexpectedStatusErr` */
const errorBodyBytesMax = 64_000;

/** The messages that say nothing beyond their code. @source containerd v2.3.4 core/remotes/docker/errdesc.go */
const standardMessages: Readonly<Record<string, string>> = {
  UNKNOWN: "unknown error",
  UNSUPPORTED: "The operation is unsupported.",
  UNAUTHORIZED: "authentication required",
  DENIED: "requested access to the resource is denied",
  UNAVAILABLE: "service unavailable",
  TOOMANYREQUESTS: "too many requests",
};

const refusals: readonly number[] = [401, 403, 404, 407, 451];
const transientStatuses: readonly number[] = [408, 425, 429, 500, 502, 503, 504];

/** Tells whether a status means that the same request may succeed later. */
export function isTransientStatus(status: number): boolean {
  return transientStatuses.includes(status);
}

/**
 * The failure that an answer stands for, with what the registry says about it. Uses up the body.
 *
 * @source containerd v2.3.4 core/remotes/errors/errors.go, core/remotes/docker/errcode.go `unexpectedResponseErr`
 */
export async function statusError(response: HttpResponse): Promise<RegistryError> {
  const { status, statusText, method, url } = response;
  const reason = statusText === "" ? (STATUS_CODES[status] ?? "") : statusText;
  const summary = `unexpected status from ${method} request to ${safeUrl(url)}: ${status} ${reason}`.trimEnd();
  const details = describeErrors(await readErrorBody(response));
  const retryAfterMs = readRetryAfter(response.headers["retry-after"], Date.now());
  return new RegistryError(ErrorKind.Unknown, details === "" ? summary : `${summary}\n${details}`, {
    status,
    isTransient: isTransientStatus(status),
    ...(refusals.includes(status) ? { refusal: "status" } : {}),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}

async function readErrorBody(response: HttpResponse): Promise<string> {
  try {
    return Buffer.from(await readBounded(response.body, { bytesMax: errorBodyBytesMax, excess: "cut" })).toString();
  } catch {
    // The status has been heard, and is the failure; its explanation is a courtesy.
    return "";
  }
}

/** What a registry says in its JSON, in containerd's form; "" when it is no such JSON. */
function describeErrors(body: string): string {
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch {
    return "";
  }
  const { errors } = (parsed ?? {}) as { readonly errors?: unknown };
  const lines = (Array.isArray(errors) ? errors : []).map(describeError);
  return lines.length > 1 ? `errors:\n${lines.join("\n")}\n` : (lines[0] ?? "");
}

function describeError(error: unknown): string {
  const { code, message, detail } = (error ?? {}) as Record<"code" | "message" | "detail", unknown>;
  const known = typeof code === "string" && Object.hasOwn(standardMessages, code) ? code : "UNKNOWN";
  const name = known.toLowerCase().replaceAll("_", " ");
  const text = typeof message === "string" ? message : "";
  const saysMore = (detail !== undefined && detail !== null) || (text !== "" && text !== standardMessages[known]);
  return saysMore ? `${name}: ${text}` : name;
}
