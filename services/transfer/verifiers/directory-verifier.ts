import { readdir } from "node:fs/promises";
import { systemErrorCode, wrapFailure } from "#base/errors.ts";
import type { Descriptor } from "../registry/ports.ts";
import type { ImageVerifier, Judgement } from "./verifier.ts";
import { runVerifier } from "./verifier-program.ts";

/** @source containerd v2.3.4 pkg/imageverifier/bindir/bindir.go `Config` */
export interface DirectoryVerifierOptions {
  readonly directory: string;
  /** How many programs are run, the first by name; negative for all. */
  readonly verifiersMax: number;
  readonly timeoutMs: number;
  /** Told what a program says on its standard error, and which ones are passed over. */
  readonly onOutput: (fields: { readonly verifier: string }, text: string) => void;
}

/**
 * Has images verified by all programs in a directory, of which each has to agree. Without programs, or without the directory, every
 * image is accepted.
 *
 * A program is called with `-name`, `-digest` and `-stdin-media-type`, and gets the descriptor as JSON. Status 0 means that it agrees; what it
 * prints is the reason.
 *
 * @source containerd v2.3.4 pkg/imageverifier/bindir/bindir.go, docs/image-verification.md
 */
export class DirectoryVerifier implements ImageVerifier {
  readonly #options: DirectoryVerifierOptions;

  constructor(options: DirectoryVerifierOptions) {
    this.#options = options;
  }

  async verify(image: {
    readonly name: string;
    readonly descriptor: Descriptor;
    readonly signal: AbortSignal;
  }): Promise<Judgement> {
    const { directory, verifiersMax, onOutput } = this.#options;
    const programs = await this.#programs();
    if (programs === undefined) {
      return { isAccepted: true, reason: `image verifier directory ${directory} does not exist` };
    }
    if (programs.length === 0) {
      return { isAccepted: true, reason: `no image verifier binaries found in ${directory}` };
    }
    const used = verifiersMax < 0 ? programs : programs.slice(0, verifiersMax);
    for (const verifier of programs.slice(used.length)) {
      onOutput({ verifier }, `is passed over: ${directory} has more than ${verifiersMax} verifiers`);
    }
    const reasons: string[] = [];
    for (const verifier of used) {
      const { exitCode, output } = await this.#run(verifier, image);
      if (exitCode !== 0) {
        return {
          isAccepted: false,
          reason: `verifier ${verifier} rejected image (exit code ${exitCode}): ${output}`,
        };
      }
      reasons.push(`${verifier} => ${output}`);
    }
    return { isAccepted: true, reason: reasons.join(", ") };
  }

  /** In the order of their names; undefined when there is no directory. */
  async #programs(): Promise<string[] | undefined> {
    try {
      return (await readdir(this.#options.directory)).sort();
    } catch (error) {
      if (systemErrorCode(error) === "ENOENT") {
        return undefined;
      }
      throw wrapFailure(error, "failed to list directory contents");
    }
  }

  async #run(verifier: string, image: Parameters<ImageVerifier["verify"]>[0]) {
    const { directory, timeoutMs, onOutput } = this.#options;
    try {
      return await runVerifier(`${directory}/${verifier}`, {
        ...image,
        timeoutMs,
        onError: (text) => onOutput({ verifier }, text),
      });
    } catch (error) {
      throw wrapFailure(error, `failed to call verifier ${verifier}`);
    }
  }
}
