import { FamilyBuilder, type MetricFamily } from "#fleet/metrics/family.ts";
import { DurationHistogram } from "#fleet/metrics/histogram.ts";

const prefix = "containerd_cri_sandboxed_";
const bytesPerMegabyte = 1024 * 1024;

/** How pulls fare, under the names of containerd. @source containerd v2.3.4 internal/cri/server/images/metrics.go */
export class PullMetrics {
  #running = 0;
  readonly #ended = { success: 0, failure: 0 };
  /** Its buckets are those of durations, as with containerd. */
  readonly #megabytesPerSecond = new DurationHistogram();

  /** Counts a pull. @param pull - Gives the image. */
  async during<T extends { readonly sizeBytes: bigint }>(pull: () => Promise<T>): Promise<T> {
    const startedMs = performance.now();
    this.#running += 1;
    try {
      const image = await pull();
      this.#ended.success += 1;
      const seconds = (performance.now() - startedMs) / 1000;
      this.#megabytesPerSecond.observe(Number(image.sizeBytes) / bytesPerMegabyte / seconds);
      return image;
    } catch (error) {
      this.#ended.failure += 1;
      throw error;
    } finally {
      this.#running -= 1;
    }
  }

  families(): MetricFamily[] {
    const pulls = new FamilyBuilder("counter", `${prefix}image_pulls_total`, "succeeded and failed counters");
    for (const [status, count] of Object.entries(this.#ended)) {
      if (count > 0) {
        pulls.add({ status }, count);
      }
    }
    const throughput = new FamilyBuilder("histogram", `${prefix}image_pulling_throughput`, "image pull throughput");
    this.#megabytesPerSecond.addTo(throughput, "");
    return [
      pulls,
      new FamilyBuilder("gauge", `${prefix}in_progress_image_pulls_total`, "in progress pulls").add({}, this.#running),
      throughput,
    ];
  }
}
