import { ErrorKind, isFailure } from "#base/errors.ts";
import type { HttpRequest, HttpResponse } from "./http-message.ts";
import { readBounded } from "./read-bounded.ts";
import { RegistryError, wrapRegistryError } from "./registry-error.ts";
import { statusError } from "./status-error.ts";

/** A name for us among the clients of a token server. @source containerd v2.3.4 core/remotes/docker/authorizer.go */
const clientId = "containerd-client";
const answerBytesMax = 1024 * 1024;

/** What a token is asked for with. An empty user name with a secret: the secret is a refresh token. */
export interface TokenRequest {
  readonly realm: URL;
  /** "" for none. */
  readonly service: string;
  readonly scopes: readonly string[];
  readonly username: string;
  /** "" to ask as nobody in particular. */
  readonly secret: string;
}

export interface Token {
  readonly value: string;
  /** In ms since the epoch; Infinity when the server does not say. */
  readonly expiresAtMs: number;
}

/** Sends a request to a token server, as the authorizer's host sends all its requests. */
export type SendToTokenServer = (
  request: Pick<HttpRequest, "method" | "url" | "headers" | "body">,
) => Promise<HttpResponse>;

/**
 * Gets a token: with a secret by OAuth's POST, and by GET where the server knows no POST; without one by GET.
 *
 * @throws {@link FlotillaError} in containerd's words.
 * @source containerd v2.3.4 core/remotes/docker/authorizer.go `doBearerAuth`, core/remotes/docker/auth/fetch.go;
 *   distribution v2.8 docs/spec/auth/{token,oauth}.md
 */
export async function fetchToken(send: SendToTokenServer, request: TokenRequest): Promise<Token> {
  try {
    if (request.secret === "") {
      return await getToken(send, request);
    }
    const response = await send(oauthRequest(request));
    const lacksPost = [400, 401, 404].includes(response.status) || (response.status === 405 && request.username !== "");
    if (lacksPost) {
      await response.discard();
      return await getToken(send, request);
    }
    return await readToken(response);
  } catch (error) {
    const what = request.secret === "" ? "failed to fetch anonymous token" : "failed to fetch oauth token";
    throw authorizationFailure(error, what);
  }
}

async function getToken(
  send: SendToTokenServer,
  { realm, service, scopes, username, secret }: TokenRequest,
): Promise<Token> {
  const url = new URL(realm);
  if (service !== "") {
    url.searchParams.append("service", service);
  }
  for (const scope of scopes) {
    url.searchParams.append("scope", scope);
  }
  const headers: Record<string, string> = secret === "" ? {} : { authorization: basicAuthorization(username, secret) };
  return readToken(await send({ method: "GET", url, headers }));
}

function oauthRequest({ realm, service, scopes, username, secret }: TokenRequest): Parameters<SendToTokenServer>[0] {
  const form = new URLSearchParams();
  if (scopes.length > 0) {
    form.set("scope", scopes.join(" "));
  }
  form.set("service", service);
  form.set("client_id", clientId);
  if (username === "") {
    form.set("grant_type", "refresh_token");
    form.set("refresh_token", secret);
  } else {
    form.set("grant_type", "password");
    form.set("username", username);
    form.set("password", secret);
  }
  const bytes = Buffer.from(form.toString());
  return {
    method: "POST",
    url: realm,
    headers: { "content-type": "application/x-www-form-urlencoded; charset=utf-8" },
    body: { lengthBytes: bytes.length, open: () => bytes },
  };
}

async function readToken(response: HttpResponse): Promise<Token> {
  if (response.status < 200 || response.status >= 400) {
    throw await statusError(response);
  }
  const bytes = await readBounded(response.body, { bytesMax: answerBytesMax, excess: "refuse" });
  const { token, access_token: accessToken, expires_in: expiresIn } = parseAnswer(bytes);
  const value = isText(accessToken) ? accessToken : token;
  if (!isText(value)) {
    throw refusal("authorization server did not include a token in the response");
  }
  const lifeMs = typeof expiresIn === "number" && expiresIn > 0 ? expiresIn * 1000 : Number.POSITIVE_INFINITY;
  return { value, expiresAtMs: Date.now() + lifeMs };
}

function parseAnswer(bytes: Uint8Array): Record<string, unknown> {
  try {
    const parsed: unknown = JSON.parse(Buffer.from(bytes).toString());
    return (parsed ?? {}) as Record<string, unknown>;
  } catch {
    // What the parser says quotes the text, and that may be a token.
    throw refusal("unable to decode token response: invalid JSON");
  }
}

function refusal(message: string): RegistryError {
  return new RegistryError(ErrorKind.Unknown, message, { refusal: "status" });
}

function isText(value: unknown): value is string {
  return typeof value === "string" && value !== "";
}

/** The value of `Authorization` for a name and a password. */
export function basicAuthorization(username: string, secret: string): string {
  return `Basic ${Buffer.from(`${username}:${secret}`).toString("base64")}`;
}

function authorizationFailure(error: unknown, what: string): Error {
  return isFailure(error, ErrorKind.Canceled) ? error : wrapRegistryError(error, `failed to authorize: ${what}`);
}
