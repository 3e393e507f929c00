import type { Turns } from "#base/turns.ts";
import type { Capability, RegistryHost } from "./hosts/host.ts";
import { isProxyFor } from "./hosts/host.ts";
import type { HttpRequest, HttpResponse, RequestBody } from "./http/http-message.ts";
import type { RegistryClient } from "./http/registry-client.ts";
import { joinHostErrors, RegistryError } from "./http/registry-error.ts";
import type { RegistriesSettings } from "./ports.ts";
import type { Reference } from "./reference.ts";

/** For how long a host that could not be reached comes last. */
const troubleMs = 60_000;

/** A request below a repository on one of its hosts. */
export interface RepositoryRequest {
  readonly host: RegistryHost;
  readonly method: HttpRequest["method"];
  /** Below the repository, such as `manifests/latest`. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string | readonly string[]>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: RequestBody;
  /** Absent for reading. */
  readonly scopes?: readonly string[];
  readonly isLastHost: boolean;
  readonly answerMsMax?: number;
  readonly signal: AbortSignal;
}

/** What a repository consists of. */
export interface RepositoryParts extends Pick<Repository, "reference" | "client" | "settings" | "turns"> {
  readonly hosts: readonly RegistryHost[];
  readonly troubledUntilMs?: Map<RegistryHost, number>;
}

/** One repository, where it is to be found, and the means to ask for it. */
export class Repository {
  readonly reference: Reference;
  readonly client: RegistryClient;
  readonly settings: RegistriesSettings;
  /** Turns for requests for content, shared by all who ask this registry. */
  readonly turns: Turns;
  readonly #hosts: readonly RegistryHost[];
  /** Until when hosts that could not be reached come last, by `performance.now`. */
  readonly #troubledUntilMs: Map<RegistryHost, number>;

  constructor(parts: RepositoryParts) {
    this.reference = parts.reference;
    this.client = parts.client;
    this.settings = parts.settings;
    this.turns = parts.turns;
    this.#hosts = parts.hosts;
    this.#troubledUntilMs = parts.troubledUntilMs ?? new Map();
  }

  /** Host and repository: what tells one place in the world from another. */
  get locator(): string {
    return `${this.reference.host}/${this.reference.repository}`;
  }

  /** The same repository without some of its hosts. */
  without(hosts: ReadonlySet<RegistryHost>): Repository {
    const { reference, client, settings, turns } = this;
    const left = this.#hosts.filter((host) => !hosts.has(host));
    const troubledUntilMs = this.#troubledUntilMs;
    return new Repository({ reference, client, settings, turns, hosts: left, troubledUntilMs });
  }

  /** What a token has to allow for reading, or for writing as well. */
  scopes(access: "pull" | "push"): readonly string[] {
    return [`repository:${this.reference.repository}:${access === "push" ? "pull,push" : "pull"}`];
  }

  /** The hosts that may be asked for all of this, in order; those that could not be reached lately come last. */
  hostsFor(...capabilities: readonly Capability[]): readonly RegistryHost[] {
    const nowMs = performance.now();
    const isTroubled = (host: RegistryHost): boolean => (this.#troubledUntilMs.get(host) ?? 0) > nowMs;
    const able = this.#hosts.filter((host) =>
      capabilities.every((capability) => host.capabilities.includes(capability)),
    );
    return [...able.filter((host) => !isTroubled(host)), ...able.filter(isTroubled)];
  }

  /** Remembers that a host could not be reached, so that not each request has to find that out. */
  noteTrouble(host: RegistryHost): void {
    this.#troubledUntilMs.set(host, performance.now() + troubleMs);
  }

  /** Where something is on a host. A host that stands for the registry is told which one is meant. */
  urlOn(host: RegistryHost, path: string, query: RepositoryRequest["query"] = {}): URL {
    const url = new URL(`${host.scheme}://${host.host}${host.path}/${this.reference.repository}/${path}`);
    for (const [name, values] of Object.entries(query)) {
      for (const value of typeof values === "string" ? [values] : values) {
        url.searchParams.append(name, value);
      }
    }
    if (isProxyFor(host, this.reference.host)) {
      url.searchParams.append("ns", this.reference.host);
    }
    return url;
  }

  /** Sends a request to one host and returns the answer, whatever its status. */
  send(request: RepositoryRequest): Promise<HttpResponse> {
    const { path, query, ...rest } = request;
    return this.client.send({ scopes: this.scopes("pull"), ...rest, url: this.urlOn(request.host, path, query) });
  }
}

/**
 * Asks one host after another until one has an answer.
 *
 * @throws the failure of the most telling host, with what the others said before it.
 */
export async function askInOrder<T>(
  repository: Repository,
  hosts: readonly RegistryHost[],
  ask: (host: RegistryHost, isLastHost: boolean) => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  const failures: (readonly [string, unknown])[] = [];
  for (const [index, host] of hosts.entries()) {
    try {
      return await ask(host, index === hosts.length - 1);
    } catch (error) {
      if (signal.aborted) {
        throw error;
      }
      if (error instanceof RegistryError && error.isTransient && error.status === undefined) {
        repository.noteTrouble(host);
      }
      failures.push([host.host, error]);
    }
  }
  throw joinHostErrors(failures);
}
