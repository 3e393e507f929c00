import { ErrorKind, FlotillaError } from "#base/errors.ts";

/** What a container's and an image's configuration say of the program. */
export interface ProgramWishes {
  readonly command: readonly string[];
  readonly args: readonly string[];
  readonly image: { readonly entrypoint: readonly string[]; readonly cmd: readonly string[] };
}

/**
 * The program of a container and its arguments. The image's entry point holds where the container has no command, and its arguments where the container has neither.
 *
 * @throws {@link FlotillaError} `unknown` when nothing is to be run.
 * @source containerd v2.3.4 internal/cri/opts/spec_opts.go `WithProcessArgs`
 */
export function processArguments({ command, args, image }: ProgramWishes): string[] {
  if (command.length > 0) {
    return [...command, ...args];
  }
  // An entry point of one empty word is how images say that they have none.
  const entrypoint = image.entrypoint.length === 1 && image.entrypoint[0] === "" ? [] : image.entrypoint;
  const result = [...entrypoint, ...(args.length === 0 ? image.cmd : args)];
  if (result.length === 0) {
    throw new FlotillaError(ErrorKind.Unknown, "no command specified");
  }
  return result;
}

/**
 * Sets variables in an environment, in place where they are there already. One without `=` is taken out. A name that comes twice stands once, with its last value: what
 * containerd leaves to the runtime.
 *
 * @source containerd v2.3.4 pkg/oci/spec_opts.go `replaceOrAppendEnvValues`
 */
export function mergeEnvironment(start: readonly string[], changes: readonly string[]): string[] {
  const result: (string | undefined)[] = [...start];
  const places = new Map(start.map((entry, index) => [nameOf(entry), index]));
  for (const entry of changes) {
    const place = places.get(nameOf(entry));
    if (!entry.includes("=")) {
      if (place !== undefined) {
        result[place] = undefined;
      }
    } else if (place === undefined) {
      places.set(nameOf(entry), result.push(entry) - 1);
    } else {
      result[place] = entry;
    }
  }
  return result.filter((entry): entry is string => entry !== undefined && entry !== "");
}

function nameOf(entry: string): string {
  return entry.split("=", 1)[0] ?? "";
}
