import type { Digest } from "#containerd/digest.ts";
import { abortReason } from "#wire/session-holder.ts";
import { RegistryError } from "../http/registry-error.ts";

/** What one download of several is told, and what becomes of it. */
export interface SharedRequest<T> {
  readonly digest: Digest;
  /** Where the bytes come from. A failure of that place is one for all who go there. */
  readonly origin: string;
  readonly signal: AbortSignal;
  /** Is told how far the download is that is waited for. */
  readonly onOffset: (offset: number) => void;
  /** Is told how many wait for this download, whenever that changes; 0 at the end. */
  readonly onWaiting?: (count: number) => void;
  /** Does the work. Finds the bytes there when another has brought them. */
  readonly work: (onOffset: (offset: number) => void) => Promise<T>;
}

interface Flight {
  readonly origin: string;
  readonly followers: Set<(offset: number) => void>;
  readonly end: Promise<FlightEnd>;
  readonly onWaiting: (count: number) => void;
  offset: number;
}

/** How a flight ended, as far as it matters to those who waited. */
type FlightEnd = { readonly kind: "over" } | { readonly kind: "failed"; readonly error: unknown };

/**
 * The downloads of a process, one at a time for each digest.
 *
 * Who comes later follows: hears how far the first is, and when that has succeeded does its own work, which finds the bytes
 * there. When the first fails because of the registry, all fail who wanted to ask the same repository; when it has been
 * cancelled or was not let in, the next one tries by itself.
 */
export class SharedDownloads {
  readonly #flights = new Map<Digest, Flight>();

  /** Digests that are being downloaded. */
  get size(): number {
    return this.#flights.size;
  }

  /** Downloads, or waits for the download that is under way and then does the rest. */
  async run<T>(request: SharedRequest<T>): Promise<T> {
    for (;;) {
      const flight = this.#flights.get(request.digest);
      if (flight === undefined) {
        return this.#lead(request);
      }
      const end = await follow(flight, request);
      if (end.kind === "failed" && flight.origin === request.origin) {
        throw end.error;
      }
    }
  }

  async #lead<T>(request: SharedRequest<T>): Promise<T> {
    const { digest, origin, work, onOffset, signal, onWaiting = () => undefined } = request;
    const { promise: end, resolve } = Promise.withResolvers<FlightEnd>();
    const flight: Flight = { origin, followers: new Set([onOffset]), end, onWaiting, offset: 0 };
    this.#flights.set(digest, flight);
    try {
      const result = await work((offset) => {
        flight.offset = offset;
        flight.followers.forEach((tell) => tell(offset));
      });
      resolve({ kind: "over" });
      return result;
    } catch (error) {
      const concernsAll = error instanceof RegistryError && error.refusal === undefined && !signal.aborted;
      resolve(concernsAll ? { kind: "failed", error } : { kind: "over" });
      throw error;
    } finally {
      this.#flights.delete(digest);
      onWaiting(0);
    }
  }
}

async function follow<T>(flight: Flight, { signal, onOffset }: SharedRequest<T>): Promise<FlightEnd> {
  const { promise: given, reject } = Promise.withResolvers<never>();
  const giveUp = (): void => reject(abortReason(signal));
  const tellWaiting = (): void => flight.onWaiting(flight.followers.size - 1);
  flight.followers.add(onOffset);
  tellWaiting();
  signal.addEventListener("abort", giveUp, { once: true });
  try {
    if (signal.aborted) {
      throw abortReason(signal);
    }
    onOffset(flight.offset);
    return await Promise.race([flight.end, given]);
  } finally {
    flight.followers.delete(onOffset);
    tellWaiting();
    signal.removeEventListener("abort", giveUp);
  }
}
