import type { Code, ConnectError } from "@connectrpc/connect";

/** A call that ended in an error. */
export interface FailedCall {
  /** Path of the method, `/package.Service/Method`. */
  readonly rpc: string;
  /** What the client is told; its cause is what was thrown. */
  readonly error: ConnectError;
}

/** A call that begins. */
export interface StartedCall {
  /** Which part of the fleet sees it: who answers it, who makes it, or who passes it on. */
  readonly side: "server" | "client" | "relay";
  /** Path of the method, `/package.Service/Method`. */
  readonly rpc: string;
  /** First value of a request header, by its lower-case name. */
  readonly header: (name: string) => string | undefined;
}

/** What is told of one call after its beginning. The relay counts pieces, as they come, where others count messages. */
export interface CallWatcher {
  /** A message of the client, without its prefix. */
  requestMessage(sizeBytes: number): void;
  /** A message of the answer, without its prefix. */
  responseMessage(sizeBytes: number): void;
  /** The call is over. The code is undefined where no gRPC status was seen, as with the Connect protocol. Comes once, as the last. */
  end(code: Code | undefined): void;
}

/**
 * Watches calls: what logs, metrics, traces and audit hang on. Servers, clients and the relay tell it of every call; a part
 * that it does not have costs nothing.
 */
export interface CallObserver {
  /** A call begins. Whoever wants to know more of it returns a watcher. */
  readonly start?: (call: StartedCall) => CallWatcher | undefined;
  /** A call failed in its handler, which is told exactly once, before the watcher's end; not told of calls that clients cancel. */
  readonly failed?: (call: FailedCall) => void;
}

/** Tells several observers. */
export function observeAll(...observers: readonly CallObserver[]): CallObserver {
  const starters = observers.filter(({ start }) => start !== undefined);
  const failureObservers = observers.filter(({ failed }) => failed !== undefined);
  return {
    ...(starters.length === 0 ? {} : { start: (call) => joinWatchers(...starters.map((each) => each.start?.(call))) }),
    failed: (call) => failureObservers.forEach((each) => each.failed?.(call)),
  };
}

/** Makes one watcher of several. */
export function joinWatchers(...candidates: readonly (CallWatcher | undefined)[]): CallWatcher | undefined {
  const watchers = candidates.filter((watcher) => watcher !== undefined);
  return watchers.length < 2
    ? watchers[0]
    : {
        requestMessage: (sizeBytes) => watchers.forEach((watcher) => watcher.requestMessage(sizeBytes)),
        responseMessage: (sizeBytes) => watchers.forEach((watcher) => watcher.responseMessage(sizeBytes)),
        end: (code) => watchers.forEach((watcher) => watcher.end(code)),
      };
}
