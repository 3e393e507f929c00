import type { FamilyBuilder } from "./family.ts";

/** Upper bounds of buckets, in seconds. @source prometheus/client_golang v1.23 prometheus/histogram.go `DefBuckets` */
const boundsSeconds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10] as const;

/** Durations, counted by how long they were. */
export class DurationHistogram {
  /** How many fell into each bucket alone; the last is beyond all bounds. */
  readonly #counts = new Float64Array(boundsSeconds.length + 1);
  #sumSeconds = 0;

  observe(seconds: number): void {
    let bucket = 0;
    while (bucket < boundsSeconds.length && seconds > (boundsSeconds[bucket] as number)) {
      bucket += 1;
    }
    this.#counts[bucket] = (this.#counts[bucket] as number) + 1;
    this.#sumSeconds += seconds;
  }

  /** @param labels - As `encodeLabels` gives them. */
  addTo(family: FamilyBuilder, labels: string): void {
    const { name } = family;
    const separator = labels === "" ? "" : ",";
    let count = 0;
    for (const [bucket, bucketCount] of this.#counts.entries()) {
      count += bucketCount;
      family.addEncoded(`${name}_bucket`, `${labels}${separator}le="${boundsSeconds[bucket] ?? "+Inf"}"`, count);
    }
    family.addEncoded(`${name}_sum`, labels, this.#sumSeconds);
    family.addEncoded(`${name}_count`, labels, count);
  }
}
