import type { StreamTable } from "./stream-table.ts";

/** How often leases are looked at while streams belong to some. */
const lookMs = 1_000;

/** Which leases there are. */
export interface LeaseLookup {
  /** Those of the given ids that exist in a namespace. */
  existing(namespace: string, ids: readonly string[], signal: AbortSignal): Promise<ReadonlySet<string>>;
}

/**
 * Closes the streams of leases that are gone, as containerd's collector does.
 *
 * It looks only while there are such streams, and a look that fails is made again. Ends with the signal.
 */
export class LeaseWatch {
  readonly #streams: StreamTable;
  readonly #leases: LeaseLookup;
  readonly #stopping: AbortSignal;
  readonly #onTrouble: (error: unknown) => void;
  #timer: NodeJS.Timeout | undefined;

  constructor(
    streams: StreamTable,
    leases: LeaseLookup,
    { stopping, onTrouble }: { readonly stopping: AbortSignal; readonly onTrouble: (error: unknown) => void },
  ) {
    this.#streams = streams;
    this.#leases = leases;
    this.#stopping = stopping;
    this.#onTrouble = onTrouble;
    stopping.addEventListener("abort", () => clearTimeout(this.#timer), { once: true });
  }

  /** To be called when a stream of a lease has come. */
  noteLeased(): void {
    if (this.#timer === undefined && !this.#stopping.aborted) {
      this.#timer = setTimeout(() => {
        this.#look()
          .catch(this.#onTrouble)
          .finally(() => {
            this.#timer = undefined;
            if (this.#streams.leased().length > 0) {
              this.noteLeased();
            }
          });
      }, lookMs);
    }
  }

  async #look(): Promise<void> {
    const byNamespace = Map.groupBy(this.#streams.leased(), ({ namespace }) => namespace);
    for (const [namespace, streams] of byNamespace) {
      const leases = [...new Set(streams.map(({ lease }) => lease))];
      const existing = await this.#leases.existing(namespace, leases, this.#stopping);
      for (const lease of leases.filter((id) => !existing.has(id))) {
        this.#streams.closeLeased(namespace, lease);
      }
    }
  }
}
