import type { Transport } from "@connectrpc/connect";
import { ErrorKind, FlotillaError, failure } from "#base/errors.ts";
import { connectRpc, type RpcConnection } from "#wire/client.ts";

/** How a proxy plugin is reached. */
export interface ProxyLinkOptions {
  /** Names the plugin in errors. */
  readonly name: string;
  /** Path of its socket. */
  readonly address: string;
  /** How long a call may take, and a stream be silent, in milliseconds; 0 for as long as its caller waits. Asked for each call. */
  callMsMax(): number;
}

/** Calls to one plugin that are under way at a time; what comes on top of that is refused. */
const callsMax = 512;
/** How long a call waits for a plugin that is not there, such as one that is being restarted; at most half of its time. */
const absentMsMax = 3_000;
/** A plugin that owes an answer for so long, and has given none since, counts as stuck. */
const stuckMs = 250;

/**
 * The way to a proxy plugin. It is connected when first used, and again when the connection has ended. Whatever the plugin does, a call ends: by its
 * answer, by its caller, or by the time it may take; and no more than a few hundred are under way, so that one that never
 * answers holds nobody up but those who call it.
 */
export class ProxyLink {
  /** For `createClient`. Failures are {@link FlotillaError}. */
  readonly transport: Transport;
  readonly #options: ProxyLinkOptions;
  readonly #connection: RpcConnection;
  /** When the calls began that are under way, by `performance.now()`; never, for those that may take for ever. */
  readonly #pending = new Set<{ readonly sinceMs: number }>();
  #answeredMs = 0;

  constructor(options: ProxyLinkOptions) {
    this.#options = options;
    const callMsMax = options.callMsMax();
    const heldMsMax = callMsMax === 0 ? absentMsMax : Math.min(absentMsMax, callMsMax / 2);
    this.#connection = connectRpc(options.address, { heldMsMax });
    this.transport = this.#bounded(this.#connection.transport);
  }

  /** Whether the plugin owes an answer for long and has not given any meanwhile. */
  get isStuck(): boolean {
    const oldestMs = Math.min(...Array.from(this.#pending, ({ sinceMs }) => sinceMs));
    return performance.now() - Math.max(oldestMs, this.#answeredMs) > stuckMs;
  }

  /** Ends the connection and what is under way on it. */
  close(): void {
    this.#connection.close();
  }

  #bounded(inner: Transport): Transport {
    return {
      unary: async (method, signal, timeoutMs, header, input, contextValues) => {
        const call = this.#begin(method.name, timeoutMs);
        try {
          const ending = endingOf(signal, call.overdue);
          const answer = await inner.unary(method, ending, undefined, header, input, contextValues);
          this.#answeredMs = performance.now();
          return answer;
        } catch (error) {
          throw this.#judge(error, call.overdue);
        } finally {
          call.end();
        }
      },
      stream: async (method, signal, timeoutMs, header, input, contextValues) => {
        const call = this.#begin(method.name, timeoutMs);
        try {
          const ending = endingOf(signal, call.overdue);
          const answer = await inner.stream(method, ending, undefined, header, input, contextValues);
          return { ...answer, message: this.#watched(answer.message, call) };
        } catch (error) {
          call.end();
          throw this.#judge(error, call.overdue);
        }
      },
    };
  }

  async *#watched<T>(messages: AsyncIterable<T>, call: PendingCall): AsyncGenerator<T> {
    try {
      for await (const message of messages) {
        this.#answeredMs = performance.now();
        call.pause();
        yield message;
        call.resume();
      }
    } catch (error) {
      throw this.#judge(error, call.overdue);
    } finally {
      call.end();
    }
  }

  /** An answer is a sign of life, be it an error; no answer in time is the plugin's failure. */
  #judge(error: unknown, overdue: AbortSignal): unknown {
    if (overdue.aborted) {
      return overdue.reason;
    }
    if (error instanceof FlotillaError && error.kind !== ErrorKind.Unavailable && error.kind !== ErrorKind.Canceled) {
      this.#answeredMs = performance.now();
    }
    return error;
  }

  #begin(method: string, timeoutMs: number | undefined): PendingCall {
    const { name } = this.#options;
    const callMsMax = this.#options.callMsMax();
    if (this.#pending.size >= callsMax) {
      throw failure(ErrorKind.ResourceExhausted, `proxy plugin ${name} has ${callsMax} calls to answer`);
    }
    const overdue = new AbortController();
    // A wait is answered when something ends, however long that takes.
    const isWait = method === "Wait";
    const limits = [isWait ? 0 : callMsMax, timeoutMs ?? 0].filter((limit) => limit > 0);
    const limitMs = limits.length === 0 ? undefined : Math.min(...limits);
    const expire = (): void =>
      overdue.abort(
        failure(ErrorKind.DeadlineExceeded, `proxy plugin ${name} did not answer ${method} within ${limitMs} ms`),
      );
    const start = (): NodeJS.Timeout | undefined =>
      limitMs === undefined ? undefined : setTimeout(expire, limitMs).unref();
    let timer = start();
    let pending = { sinceMs: isWait ? Number.POSITIVE_INFINITY : performance.now() };
    this.#pending.add(pending);
    return {
      overdue: overdue.signal,
      pause: () => {
        clearTimeout(timer);
        this.#pending.delete(pending);
      },
      resume: () => {
        timer = start();
        pending = { sinceMs: performance.now() };
        this.#pending.add(pending);
      },
      end: () => {
        clearTimeout(timer);
        this.#pending.delete(pending);
      },
    };
  }
}

interface PendingCall {
  /** Aborts when the call has taken too long. */
  readonly overdue: AbortSignal;
  /** The caller is at work on an answer, which is none of the plugin's time. */
  pause(): void;
  resume(): void;
  end(): void;
}

function endingOf(signal: AbortSignal | undefined, overdue: AbortSignal): AbortSignal {
  return signal === undefined ? overdue : AbortSignal.any([signal, overdue]);
}
