import { ErrorKind } from "#base/errors.ts";
import type { Credentials } from "../ports.ts";
import { type Challenge, parseChallenges } from "./challenge.ts";
import { RegistryError } from "./registry-error.ts";
import { basicAuthorization, fetchToken, type SendToTokenServer, type Token } from "./token.ts";

/** A token is not used in the last moments of its life, which may end on the way. */
const tokenMarginMs = 5_000;

/** An answer 401, and what it answers. */
export interface UnauthorizedAnswer {
  readonly host: string;
  /** The values of `WWW-Authenticate`. */
  readonly challenges: readonly string[];
  /** The `Authorization` of the request, undefined for none. */
  readonly sent: string | undefined;
  /** The same request has been answered so before. */
  readonly isRepeated: boolean;
}

/** Asks for the secret that goes with a host. */
export type AskCredentials = (host: string, challenges: readonly string[]) => Promise<Credentials>;

/** How one host is answered: with a fixed header, or with tokens by scope. */
type Method =
  | { readonly kind: "header"; readonly value: string }
  | { readonly kind: "tokens"; readonly request: BearerRequest; readonly tokens: Map<string, Promise<Token>> };

interface BearerRequest {
  readonly realm: URL;
  readonly service: string;
  /** Of the challenge, asked for besides those of the request. */
  readonly scopes: readonly string[];
  readonly username: string;
  readonly secret: string;
}

/**
 * What the hosts of one registry want to see, learnt from their answers. A secret is asked for when a host first wants one,
 * and forgotten with the authorizer.
 *
 * @source containerd v2.3.4 core/remotes/docker/authorizer.go
 */
export class Authorizer {
  readonly #ask: AskCredentials | undefined;
  readonly #methods = new Map<string, Method>();
  #learning: Promise<unknown> = Promise.resolve();

  constructor(ask: AskCredentials | undefined) {
    this.#ask = ask;
  }

  /**
   * The value of `Authorization` for a request, undefined while the host has not wanted one.
   *
   * @param host - With its port.
   * @param scopes - What the request is about to do, as in `repository:a/b:pull`.
   */
  async authorize(host: string, scopes: readonly string[], send: SendToTokenServer): Promise<string | undefined> {
    const method = this.#methods.get(host);
    if (method === undefined || method.kind === "header") {
      return method?.value;
    }
    const wanted = [...new Set([...scopes, ...method.request.scopes])].sort();
    const key = wanted.join(" ");
    let token = method.tokens.get(key);
    if (token === undefined || isStale(await token)) {
      const newer = method.tokens.get(key);
      // Somebody else may have asked anew while we looked at the old one.
      token = newer === token || newer === undefined ? fetchToken(send, { ...method.request, scopes: wanted }) : newer;
      method.tokens.set(key, token);
    }
    try {
      return `Bearer ${(await token).value}`;
    } catch (error) {
      if (method.tokens.get(key) === token) {
        method.tokens.delete(key);
      }
      throw error;
    }
  }

  /**
   * Learns from an answer 401 what its host wants to see. One answer at a time, so that requests side by side ask the
   * client once.
   *
   * @returns false when there is nothing to be learnt, and the answer stands.
   * @throws {@link RegistryError} when it is clear that asking again is no use.
   */
  learn(answer: UnauthorizedAnswer): Promise<boolean> {
    const learning = this.#learning.then(() => this.#learn(answer));
    this.#learning = learning.catch(() => undefined);
    return learning;
  }

  async #learn({ host, challenges, sent, isRepeated }: UnauthorizedAnswer): Promise<boolean> {
    for (const challenge of parseChallenges(challenges)) {
      if (challenge.scheme === "bearer") {
        this.#dropWhatIsWrong(host, challenge, isRepeated);
        const method = this.#methods.get(host);
        if (method === undefined) {
          this.#methods.set(host, await this.#learnBearer(host, challenge, challenges));
        } else if (isRepeated) {
          return false;
        } else if (method.kind === "tokens" && sent !== undefined) {
          method.tokens.clear();
        }
        return true;
      }
      if (this.#ask !== undefined && !isRepeated) {
        if (sent !== undefined || !this.#methods.has(host)) {
          this.#methods.set(host, await this.#learnBasic(this.#ask, host, challenges));
        }
        return true;
      }
    }
    return false;
  }

  /** A token that the server calls wrong is thrown away once; when the next one is wrong as well, that is final. */
  #dropWhatIsWrong(host: string, { parameters }: Challenge, isRepeated: boolean): void {
    const error = parameters.get("error") ?? "";
    if (error === "") {
      return;
    }
    this.#methods.delete(host);
    if (isRepeated) {
      throw refusal(`server message: ${error.slice(0, 64)}: authorization failed`);
    }
  }

  async #learnBearer(host: string, { parameters }: Challenge, challenges: readonly string[]): Promise<Method> {
    const realm = parameters.get("realm");
    if (realm === undefined) {
      throw refusal("no realm specified for token auth challenge");
    }
    if (!URL.canParse(realm) || !/^https?:$/.test(new URL(realm).protocol)) {
      throw refusal("invalid token auth challenge realm");
    }
    const credentials = (await this.#ask?.(host, challenges)) ?? { kind: "none" };
    if (credentials.kind === "header") {
      return { kind: "header", value: credentials.value };
    }
    const scope = parameters.get("scope") ?? "";
    const request = {
      realm: new URL(realm),
      service: parameters.get("service") ?? "",
      scopes: scope === "" ? [] : scope.split(" "),
      username: credentials.kind === "password" ? credentials.username : "",
      secret: credentials.kind === "none" ? "" : credentials.secret,
    };
    return { kind: "tokens", request, tokens: new Map() };
  }

  async #learnBasic(ask: AskCredentials, host: string, challenges: readonly string[]): Promise<Method> {
    const credentials = await ask(host, challenges);
    if (credentials.kind === "header") {
      return { kind: "header", value: credentials.value };
    }
    if (credentials.kind !== "password" || credentials.username === "" || credentials.secret === "") {
      throw refusal("authorization failed: no basic auth credentials");
    }
    return { kind: "header", value: basicAuthorization(credentials.username, credentials.secret) };
  }
}

function isStale({ expiresAtMs }: Token): boolean {
  return expiresAtMs <= Date.now() + tokenMarginMs;
}

function refusal(message: string): RegistryError {
  return new RegistryError(ErrorKind.Unknown, message, { refusal: "credentials" });
}
