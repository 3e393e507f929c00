import { timestampNow } from "#base/times.ts";
import type { Deprecation } from "#config/manifest.ts";

/** Something that was in use, and when it was last. */
export interface NotedDeprecation extends Deprecation {
  readonly lastOccurrence: ReturnType<typeof timestampNow>;
}

/**
 * What clients and plugins of this process use that containerd is going to take away, which is seen when it is used.
 *
 * @source containerd v2.3.4 plugins/services/warning/service.go
 */
export class NotedDeprecations {
  readonly #noted = new Map<string, NotedDeprecation>();

  /** Notes that something is in use. */
  note(deprecation: Deprecation): void {
    this.#noted.set(deprecation.id, { ...deprecation, lastOccurrence: timestampNow() });
  }

  /** All that was noted. */
  all(): NotedDeprecation[] {
    return [...this.#noted.values()];
  }
}
