import { ErrorKind, FlotillaError } from "#base/errors.ts";
import type { TarMember } from "#tar/tar-format.ts";
import type { TarSink } from "#tar/tar-sink.ts";

/** What a layer may be, so that a small blob cannot fill a disk or keep a thread for days. 0 for no limit. */
export interface LayerLimits {
  /** Files and directories in one layer. */
  readonly entriesMax: number;
  /** Directories inside each other. */
  readonly depthMax: number;
  /** How many times as large as its blob a layer may become. What is below {@link smallBytes} is never too large. */
  readonly ratioMax: number;
}

/** Layers of up to this size may be as large as they like in comparison with their blobs. */
export const smallBytes = 1024 * 1024 * 1024;

const slash = 0x2f;

/**
 * Makes sure that a layer has not become too large for its blob.
 *
 * @param usedBytes - Of the blob so far.
 * @throws {@link FlotillaError} `resource_exhausted`.
 */
export function checkRatio({ ratioMax }: LayerLimits, layerBytes: number, usedBytes: number): void {
  if (ratioMax > 0 && layerBytes > smallBytes && layerBytes > usedBytes * ratioMax) {
    throw new FlotillaError(
      ErrorKind.ResourceExhausted,
      `the layer is more than ${ratioMax} times as large as its blob (ratio_max)`,
    );
  }
}

/** Hands on what a layer has as long as it keeps to the limits. */
export class LimitedSink implements TarSink {
  readonly #sink: TarSink;
  readonly #limits: LayerLimits;
  #entries = 0;

  constructor(sink: TarSink, limits: LayerLimits) {
    this.#sink = sink;
    this.#limits = limits;
  }

  /** @throws {@link FlotillaError} `resource_exhausted`. */
  begin(member: TarMember): void {
    const { entriesMax, depthMax } = this.#limits;
    this.#entries += 1;
    if (entriesMax > 0 && this.#entries > entriesMax) {
      throw new FlotillaError(
        ErrorKind.ResourceExhausted,
        `the layer has more than ${entriesMax} entries (entries_max)`,
      );
    }
    if (depthMax > 0 && depthOf(member.name) > depthMax) {
      throw new FlotillaError(
        ErrorKind.ResourceExhausted,
        `the layer has more than ${depthMax} directories inside each other (depth_max)`,
      );
    }
    this.#sink.begin(member);
  }

  content(data: Buffer): void {
    this.#sink.content(data);
  }

  hole(sizeBytes: number): void {
    this.#sink.hole(sizeBytes);
  }

  finish(): void {
    this.#sink.finish();
  }
}

/** Slashes with something behind them; `a//b/` is as deep as `a/b`. */
function depthOf(name: string): number {
  let depth = 0;
  for (let index = 1; index < name.length; index += 1) {
    if (name.charCodeAt(index - 1) === slash && name.charCodeAt(index) !== slash) {
      depth += 1;
    }
  }
  return depth;
}
