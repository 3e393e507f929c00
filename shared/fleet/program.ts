const bundleFolder = new URL(".", import.meta.url);
const repository = new URL("../../", import.meta.url);

/** Bundles are JavaScript, sources are TypeScript. */
const isBundled = import.meta.url.endsWith(".js");

/**
 * Where a program of the repository is, or a thread of one: its source when this process runs from sources, and its bundle
 * of the same making when this process runs from bundles.
 *
 * @param source - Path of the source from the repository, such as `services/events/main.ts`.
 */
export function programUrl(source: `${string}.ts`): URL {
  return isBundled ? new URL(`${bundleName(source)}.js`, bundleFolder) : new URL(source, repository);
}

/** The name of the bundle that is made of a source, such as `services-events-main`. */
export function bundleName(source: string): string {
  return source.replace(/\.ts$/, "").replaceAll("/", "-");
}
