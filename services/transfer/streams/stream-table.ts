import { ErrorKind, FlotillaError, failure } from "#base/errors.ts";
import type { Stream } from "./stream.ts";

/** Most streams that are open at a time. */
const openStreamsMax = 10_000;

/** A stream by its name. */
export interface StreamName {
  readonly namespace: string;
  /** What the client calls it. */
  readonly id: string;
}

/** A stream that belongs to a lease. */
export interface LeasedStream extends StreamName {
  readonly lease: string;
}

interface Entry extends LeasedStream {
  readonly stream: Stream;
}

/**
 * The open streams of all clients, by namespace and id.
 *
 * @source containerd v2.3.4 plugins/streaming/manager.go
 */
export class StreamTable {
  readonly #entries = new Map<string, Entry>();

  /**
   * Gives a stream its name.
   *
   * @param lease - The lease that owns the stream, "" for none.
   * @returns what takes the name away again, once the call of the stream is over.
   * @throws {@link FlotillaError} `unknown` when the name is taken, in containerd's words and, as there, without its class;
   *   `resource_exhausted` when there are too many.
   */
  register({ namespace, id }: StreamName, lease: string, stream: Stream): () => void {
    const key = keyOf({ namespace, id });
    if (this.#entries.has(key)) {
      throw new FlotillaError(ErrorKind.Unknown, ErrorKind.AlreadyExists);
    }
    if (this.#entries.size >= openStreamsMax) {
      throw failure(ErrorKind.ResourceExhausted, `more than ${openStreamsMax} streams are open`);
    }
    const entry = { namespace, id, lease, stream };
    this.#entries.set(key, entry);
    return () => {
      if (this.#entries.get(key) === entry) {
        this.#entries.delete(key);
      }
    };
  }

  /** @throws {@link FlotillaError} `not_found` when no stream has the name. */
  get(name: StreamName): Stream {
    const entry = this.#entries.get(keyOf(name));
    if (entry === undefined) {
      throw new FlotillaError(ErrorKind.NotFound, ErrorKind.NotFound);
    }
    return entry.stream;
  }

  /** The streams that belong to a lease. */
  leased(): LeasedStream[] {
    return [...this.#entries.values()].filter(({ lease }) => lease !== "");
  }

  /** Closes all streams of a lease. */
  closeLeased(namespace: string, lease: string): void {
    for (const [key, entry] of this.#entries) {
      if (entry.namespace === namespace && entry.lease === lease) {
        this.#entries.delete(key);
        void entry.stream.close();
      }
    }
  }
}

function keyOf({ namespace, id }: StreamName): string {
  return `${namespace}\0${id}`;
}
