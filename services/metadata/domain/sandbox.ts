import { ErrorKind, failure, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { applyFieldMask, maskedMap, maskedValue } from "#containerd/field-mask.ts";
import { validateIdentifier } from "#containerd/identifier.ts";
import type { AnyValue } from "./any.ts";

/** What the rules for sandboxes look at. */
export interface SandboxFields<A extends AnyValue, R extends { name: string }> {
  sandboxId: string;
  runtime?: R | undefined;
  spec?: A | undefined;
  labels: Record<string, string>;
  extensions: Record<string, A>;
}

/** What an update without a list of fields takes over. @source containerd v2.3.4 core/metadata/sandbox.go `Update` */
const mutableFields = ["labels", "extensions", "spec", "runtime"];

/**
 * Checks a sandbox that is about to be stored. Its labels may be of any size.
 *
 * @throws {@link FlotillaError} `invalid_argument` with containerd's text.
 * @source containerd v2.3.4 core/metadata/sandbox.go `validate`
 */
export function validateSandbox(sandboxId: string): void {
  try {
    validateIdentifier(sandboxId);
  } catch (error) {
    throw wrapFailure(error, "invalid sandbox ID");
  }
}

/**
 * Changes a sandbox as a request asks.
 *
 * @param stored - Changed in place; when this throws it is half changed and must be thrown away.
 * @param paths - Without any, all that may change is taken over, and the name of the runtime must be equal.
 * @param absentExtension - Value of an extension that the paths name and the request lacks.
 * @throws {@link FlotillaError} `invalid_argument` with containerd's text.
 * @source containerd v2.3.4 core/metadata/sandbox.go `Update`
 */
export function updateSandbox<A extends AnyValue, R extends { name: string }>(
  stored: SandboxFields<A, R>,
  wanted: SandboxFields<A, R>,
  paths: readonly string[],
  absentExtension: A,
): void {
  if (paths.length === 0 && (stored.runtime?.name ?? "") !== (wanted.runtime?.name ?? "")) {
    throw failure(ErrorKind.InvalidArgument, "sandbox.Runtime.Name field is immutable");
  }
  applyFieldMask(
    paths.length === 0 ? mutableFields : paths,
    {
      labels: maskedMap(stored, "labels", wanted.labels, ""),
      extensions: maskedMap(stored, "extensions", wanted.extensions, absentExtension),
      spec: maskedValue(stored, "spec", wanted),
      runtime: maskedValue(stored, "runtime", wanted),
    },
    (path) =>
      failure(ErrorKind.InvalidArgument, `cannot update ${quote(path)} field on sandbox ${quote(stored.sandboxId)}`),
  );
}
