import { ErrorKind, failure } from "#base/errors.ts";
import { platformOf } from "#containerd/image-manifest.ts";
import { formatPlatform } from "#containerd/platform.ts";
import type { Descriptor } from "../registry/ports.ts";

/** Most descriptors below one. */
const descriptorsMax = 100_000;

/**
 * Remembers what has been visited of an image, so that what is referred to often is visited once, and an image that is made to be endless
 * ends.
 */
export class Visits {
  readonly #visits = new Map<string, Promise<void>>();
  readonly #visit: (descriptor: Descriptor) => Promise<void>;

  constructor(visit: (descriptor: Descriptor) => Promise<void>) {
    this.#visit = visit;
  }

  /**
   * Visits a descriptor, or gives what came of it the first time. Never throws: what has been begun with others can be waited for.
   *
   * @returns a promise that is rejected with `resource_exhausted` when there are too many.
   */
  visit(descriptor: Descriptor): Promise<void> {
    const platform = platformOf(descriptor);
    // The choice among the children depends on the platform, and what a blob is on its media type.
    const key = [descriptor.digest, descriptor.mediaType, platform === undefined ? "" : formatPlatform(platform)].join(
      " ",
    );
    const seen = this.#visits.get(key);
    if (seen !== undefined) {
      return seen;
    }
    if (this.#visits.size >= descriptorsMax) {
      return Promise.reject(failure(ErrorKind.ResourceExhausted, `the image has more than ${descriptorsMax} parts`));
    }
    const outcome = this.#visit(descriptor);
    this.#visits.set(key, outcome);
    return outcome;
  }
}
