import type { Socket } from "node:net";
import { namespaceHeader } from "#wire/headers.ts";
import type { CallWatcher } from "#wire/observe.ts";

/** Judges who may call what. The relay asks before it passes a call on. */
export interface RelayAccess {
  /**
   * Gets to know a client.
   *
   * @throws Error when the connection is gone already.
   */
  accept(socket: Socket): ConnectionAccess;
}

/** What one client may call. */
export interface ConnectionAccess {
  /** Why a call is refused, for its client; undefined when it is let through. */
  denialOf(call: RequestedCall): string | undefined;
  /** Watches a call that was let through to its end, if anybody wants to know. */
  watch(call: RequestedCall): CallWatcher | undefined;
}

/** What can be known of a call from the head of its request. */
export interface RequestedCall {
  /** `/package.Service/Method`, without a query. */
  readonly path: string;
  /** What the client has sent as its namespace: one, unless it sends none, or wants to deceive. */
  readonly namespaces: readonly string[];
}

/**
 * Reads what is judged of a request.
 *
 * @param target - Path of the method, perhaps with a query.
 * @param fields - Name, value, name, value, ...; names of HTTP/1.1 may have capitals.
 */
export function requestedCall(target: string, fields: readonly string[]): RequestedCall {
  const query = target.indexOf("?");
  const namespaces: string[] = [];
  for (let at = 0; at < fields.length; at += 2) {
    if (fields[at]?.toLowerCase() === namespaceHeader) {
      namespaces.push(fields[at + 1] ?? "");
    }
  }
  return { path: query === -1 ? target : target.slice(0, query), namespaces };
}
