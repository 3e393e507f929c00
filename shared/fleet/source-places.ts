import { existsSync, readFileSync } from "node:fs";
import { SourceMap, type SourceMapPayload } from "node:module";
import { fileURLToPath } from "node:url";

/** A place in a stack trace, as V8 writes it. */
const placePattern = /(file:\/\/[^\s()]+\.js):(\d+):(\d+)/g;

/**
 * Makes the stack traces of an error and its causes name places in sources where they name places in bundles.
 *
 * Reads source maps, which takes some ten milliseconds: for errors that show a bug. Node.js would do it for every error
 * (`--enable-source-maps`) by keeping all maps in memory, 3 MiB and more a process.
 */
export function showSourcePlaces(error: unknown): void {
  for (let shown = error; shown instanceof Error; shown = shown.cause) {
    if (shown.stack !== undefined) {
      shown.stack = mapPlaces(shown.stack);
    }
  }
}

function mapPlaces(stack: string): string {
  const maps = new Map<string, SourceMap | undefined>();
  return stack.replace(placePattern, (place, bundle: string, line: string, column: string) => {
    if (!maps.has(bundle)) {
      maps.set(bundle, readMap(new URL(`${bundle}.map`)));
    }
    // A stack trace counts from one, a source map from zero.
    const entry = maps.get(bundle)?.findEntry(Number(line) - 1, Number(column) - 1);
    return entry !== undefined && "originalSource" in entry
      ? `${fileURLToPath(new URL(entry.originalSource, bundle))}:${entry.originalLine + 1}:${entry.originalColumn + 1}`
      : place;
  });
}

function readMap(path: URL): SourceMap | undefined {
  return existsSync(path) ? new SourceMap(JSON.parse(readFileSync(path, "utf8")) as SourceMapPayload) : undefined;
}
