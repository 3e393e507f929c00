import { randomBytes } from "node:crypto";
import { ErrorKind, FlotillaError } from "#base/errors.ts";

/** How long a client may take to come after it was told where, in ms. @source k8s.io/cri-streaming pkg/streaming/request_cache.go `cacheTTL` */
const requestMsMax = 60_000;
/** Clients that may be awaited at a time. @source k8s.io/cri-streaming pkg/streaming/request_cache.go `maxInFlight` */
const requestsMax = 1000;
/** Six bytes are the eight characters that the kubelet's library makes; what they protect is a local port. */
const tokenBytes = 12;

/**
 * Requests whose clients have been told an address and have not come yet. Each token opens one stream, once.
 *
 * @source k8s.io/cri-streaming pkg/streaming/request_cache.go `requestCache`
 */
export class RequestCache<T> {
  /** Oldest first. */
  readonly #requests = new Map<string, { readonly request: T; readonly expiresMs: number }>();
  readonly #nowMs: () => number;

  /** @param nowMs - A clock that does not go back. */
  constructor(nowMs: () => number = () => performance.now()) {
    this.#nowMs = nowMs;
  }

  /**
   * Keeps a request for a minute.
   *
   * @returns The token by which it is found again.
   * @throws {@link FlotillaError} `resource_exhausted`
   */
  insert(request: T): string {
    const nowMs = this.#nowMs();
    for (const [token, { expiresMs }] of this.#requests) {
      if (expiresMs >= nowMs) {
        break;
      }
      this.#requests.delete(token);
    }
    if (this.#requests.size >= requestsMax) {
      throw new FlotillaError(ErrorKind.ResourceExhausted, "maximum number of in-flight requests exceeded");
    }
    const token = randomBytes(tokenBytes).toString("base64url");
    this.#requests.set(token, { request, expiresMs: nowMs + requestMsMax });
    return token;
  }

  /** Gives a request out, once. Undefined for a token that was never given, or used, or is too old. */
  consume(token: string): T | undefined {
    const found = this.#requests.get(token);
    this.#requests.delete(token);
    return found !== undefined && found.expiresMs >= this.#nowMs() ? found.request : undefined;
  }
}
