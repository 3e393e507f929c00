import type { RegistriesSettings } from "../ports.ts";
import { type AskCredentials, Authorizer } from "./authorizer.ts";
import { backOff, retryAfterMsMax } from "./back-off.ts";
import { isUnreachable } from "./connection-error.ts";
import { type ClientRequest, type Exchanged, type ExchangeOptions, Exchanges } from "./exchange.ts";
import { type HttpResponse, headersOf } from "./http-message.ts";
import { isTransient } from "./registry-error.ts";
import { readRetryAfter } from "./retry-after.ts";
import { isTransientStatus } from "./status-error.ts";

/** How often one request is sent at most. @source containerd v2.3.4 core/remotes/docker/resolver.go `maxAttempts` */
const attemptsMax = 5;

/** How the client behaves, whom it asks and whom it tells. */
export interface ClientOptions extends ExchangeOptions {
  readonly credentials: AskCredentials | undefined;
  readonly settings: Pick<RegistriesSettings, "noProgressMs" | "retryDelayMs">;
}

/** A request that may be sent again. */
export interface RetriedRequest extends ClientRequest {
  /** Nobody else can be asked: then a busy or broken host is asked again, after a while. */
  readonly isLastHost: boolean;
}

/** Sends requests to the hosts of one registry, and sends them again where that makes sense. */
export class RegistryClient implements AsyncDisposable {
  readonly #settings: ClientOptions["settings"];
  readonly #authorizer: Authorizer;
  readonly #exchanges: Exchanges;

  constructor(options: ClientOptions) {
    this.#settings = options.settings;
    this.#authorizer = new Authorizer(options.credentials);
    this.#exchanges = new Exchanges(options, this.#authorizer);
  }

  /**
   * Sends a request, up to five times, and returns the last answer, whatever its status.
   *
   * Sent again is what was not let in, when something has been learnt about how to get in, and on the last host what met a
   * cut connection or a host that is busy or broken for the moment.
   *
   * @throws {@link RegistryError} when there is no answer, or no way to be let in.
   * @source containerd v2.3.4 core/remotes/docker/resolver.go `doWithRetries`, `retryRequest`
   */
  async send(request: RetriedRequest): Promise<HttpResponse> {
    let { method } = request;
    let wasUnauthorized = false;
    for (let attempt = 1; ; attempt += 1) {
      const exchanged = await this.#tryOnce({ ...request, method }, attempt);
      if (exchanged === undefined) {
        continue;
      }
      const { response } = exchanged;
      const { status } = response;
      if (attempt === attemptsMax || status < 400) {
        return response;
      }
      if (status === 401) {
        if (!(await this.#learn(request, exchanged, wasUnauthorized))) {
          return response;
        }
        wasUnauthorized = true;
        await response.discard();
      } else if (status === 405 && method === "HEAD" && request.url.pathname.includes("/manifests/")) {
        // There are registries that know HEAD for blobs alone.
        method = "GET";
        await response.discard();
      } else if (isTransientStatus(status) && request.isLastHost) {
        const atLeastMs = readRetryAfter(response.headers["retry-after"], Date.now()) ?? 0;
        if (atLeastMs > retryAfterMsMax) {
          return response;
        }
        await response.discard();
        await backOff({ firstMs: this.#settings.retryDelayMs, failures: attempt, atLeastMs, signal: request.signal });
      } else {
        return response;
      }
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#exchanges[Symbol.asyncDispose]();
  }

  /** Waits when the connection broke and another attempt is to be made: then there is no answer. */
  async #tryOnce(request: RetriedRequest, attempt: number): Promise<Exchanged | undefined> {
    try {
      return await this.#exchanges.send(request);
    } catch (error) {
      if (!request.isLastHost || attempt === attemptsMax || !isTransient(error) || isUnreachable(error)) {
        throw error;
      }
      await backOff({ firstMs: this.#settings.retryDelayMs, failures: attempt, signal: request.signal });
      return undefined;
    }
  }

  async #learn(request: RetriedRequest, { response, sent }: Exchanged, isRepeated: boolean): Promise<boolean> {
    const isElsewhere = response.url.host !== request.url.host;
    if (request.isForeign === true || isElsewhere) {
      return false;
    }
    const challenges = headersOf(response, "www-authenticate");
    return this.#authorizer.learn({ host: response.url.host, challenges, sent, isRepeated });
  }
}
