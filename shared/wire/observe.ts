import type { Code } from "@connectrpc/connect";
import type { CallFailure } from "./errors.ts";

/** A call that ended in an error. */
export interface FailedCall {
  /** Path of the method, `/package.Service/Method`. */
  readonly rpc: string;
  readonly error: CallFailure;
}

/** Which part of the fleet sees a call: who answers it, who makes it, or who passes it on. */
export type CallSide = "server" | "client" | "relay";

/** The header fields of a request. */
export interface RequestFields {
  /** First value of a field, by its lower-case name. */
  find(name: string): string | undefined;
}

/** A call that has not ended. */
export interface CallUnderWay {
  /** Path of the method, `/package.Service/Method`. */
  readonly rpc: string;
  /** When it began, in milliseconds of the clock of `performance.now()`. */
  readonly beganMs: number;
}

/** What is told of one call after its beginning. The relay counts pieces, as they come, where others count messages. */
export interface CallWatcher {
  /** A message of the client, without its prefix; 0 bytes where the protocol hides its size. */
  requestMessage(sizeBytes: number): void;
  /** A message of the answer, without its prefix; 0 bytes where the protocol hides its size. */
  responseMessage(sizeBytes: number): void;
  /**
   * The call is over. The code is undefined where none was seen, as in the relay with the Connect protocol. Comes once, as the last.
   *
   * @param beganMs - When it began, in milliseconds of the clock of `performance.now()`.
   */
  end(code: Code | undefined, beganMs: number): void;
  /** Runs what answers the call, so that what is done on its behalf can be told. Handlers are called within it, where it is there. */
  readonly run?: <T>(work: () => T) => T;
  /** Fields that go with a call that is made or passed on, in place of those that the caller has sent under the same names. */
  readonly fields?: readonly (readonly [name: string, value: string])[];
}

/**
 * Watches calls: what logs, metrics, traces and audit hang on. Servers, clients and the relay tell it of every call; a part
 * that it does not have costs nothing.
 */
export interface CallObserver {
  /**
   * A call begins. Whoever wants to know more of it returns a watcher, which may be the same for many calls, so that nothing has to be made
   * for one.
   *
   * @param rpc - Path of the method, `/package.Service/Method`.
   */
  readonly start?: (side: CallSide, rpc: string, fields: RequestFields) => CallWatcher | undefined;
  /** A call failed in its handler, which is told exactly once, before the watcher's end; not told of calls that clients cancel. */
  readonly failed?: (call: FailedCall) => void;
}

/** Tells several observers. */
export function observeAll(...observers: readonly CallObserver[]): CallObserver {
  const starters = observers.flatMap(({ start }) => start ?? []);
  const failureObservers = observers.filter(({ failed }) => failed !== undefined);
  const [first] = starters;
  const start: CallObserver["start"] =
    starters.length < 2
      ? first
      : (side, rpc, fields) => joinWatchers(...starters.map((each) => each(side, rpc, fields)));
  return {
    ...(start === undefined ? {} : { start }),
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
        end: (code, beganMs) => watchers.forEach((watcher) => watcher.end(code, beganMs)),
        ...joinRuns(watchers),
        ...joinFields(watchers),
      };
}

function joinRuns(watchers: readonly CallWatcher[]): Pick<CallWatcher, "run"> {
  const runs = watchers.flatMap(({ run }) => run ?? []);
  const [first] = runs;
  if (first === undefined) {
    return {};
  }
  return { run: runs.slice(1).reduce((outer, inner) => (work) => outer(() => inner(work)), first) };
}

function joinFields(watchers: readonly CallWatcher[]): Pick<CallWatcher, "fields"> {
  const fields = watchers.flatMap((watcher) => watcher.fields ?? []);
  return fields.length === 0 ? {} : { fields };
}
