import { quote } from "#base/quote.ts";

/** What the relay knows of a method. */
export interface RelayMethod {
  /** Name of the process that answers it. */
  readonly upstream: string;
  /**
   * Whether a call that got no response may be sent again when its process died: the client sends one message, and the method has no side effects or
   * its process keeps what became of calls.
   */
  readonly repeatable: boolean;
  /** Whether the method changes something: such a call is sent again only if its process is dead, and is told to the next one by its id. */
  readonly changing?: boolean;
  /** Whether the answer is a stream, which nobody holds back: such a call is sent again only as long as nothing has come. */
  readonly streaming?: boolean;
}

/** The methods of the relay by their path, `/package.Service/Method`. Looked up for each call, so that methods may come and go while the relay runs. */
export type RelayRoutes = ReadonlyMap<string, RelayMethod>;

/** The method that a request target names; a query, as of Connect's GET requests, does not matter. */
export function findRoute(routes: RelayRoutes, target: string): RelayMethod | undefined {
  return routes.get(target) ?? routes.get(pathOf(target));
}

/**
 * Says why a target has no route, as a Go server says it.
 *
 * @source grpc-go v1.75 server.go `(*Server).handleStream`
 */
export function describeMissingRoute(routes: RelayRoutes, target: string): string {
  const path = pathOf(target);
  const split = path.lastIndexOf("/");
  if (split <= 0 || !path.startsWith("/")) {
    return `malformed method name: ${quote(target)}`;
  }
  const service = path.slice(1, split);
  const method = path.slice(split + 1);
  for (const known of routes.keys()) {
    if (known.startsWith(`/${service}/`)) {
      return `unknown method ${method} for service ${service}`;
    }
  }
  return `unknown service ${service}`;
}

/** The path that a request target names, without its query. */
export function pathOf(target: string): string {
  const query = target.indexOf("?");
  return query === -1 ? target : target.slice(0, query);
}
