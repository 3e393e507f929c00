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
  watch(call: RequestedCall): AuditedCall | undefined;
}

/** A call that was let through, and is watched. */
export interface AuditedCall extends CallWatcher {
  /** A piece of the request, prefixes included, as it comes; the bytes are those of the relay. */
  requestBytes(chunk: Buffer, start: number, end: number): void;
}

/** What can be known of a call from the head of its request. */
export interface RequestedCall {
  /** `/package.Service/Method`, without a query. */
  readonly path: string;
  /** What the client has sent as its namespace: one, unless it sends none, or wants to deceive. */
  readonly namespaces: readonly string[];
  /** "" when the client sends none. */
  readonly contentType: string;
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
  let contentType = "";
  for (let at = 0; at < fields.length; at += 2) {
    const name = fields[at]?.toLowerCase();
    if (name === namespaceHeader) {
      namespaces.push(fields[at + 1] ?? "");
    } else if (name === "content-type") {
      contentType = fields[at + 1] ?? "";
    }
  }
  return { path: query === -1 ? target : target.slice(0, query), namespaces, contentType };
}
