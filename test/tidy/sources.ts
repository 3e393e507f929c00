import { globSync, readFileSync } from "node:fs";

/** A TypeScript source file of the repository. */
export interface SourceFile {
  /** Path from the repository's root. */
  readonly path: string;
  readonly text: string;
}

/** Every source file that is written by hand, sorted by path. */
export function readSources(): SourceFile[] {
  return globSync("{shared,services,deploy,test}/**/*.ts")
    .filter((path) => !path.startsWith("shared/gen/"))
    .sort()
    .map((path) => ({ path, text: readFileSync(path, "utf8") }));
}

/** The specifiers that a file imports, dynamic imports and re-exports included. */
export function importsOf({ text }: SourceFile): string[] {
  return Array.from(
    text.matchAll(
      /(?:^|\n)\s*(?:import|export)\s[^;"']*?from\s+["']([^"']+)["']|\bimport\(\s*["']([^"']+)["']\s*\)|(?:^|\n)import\s+["']([^"']+)["']/g,
    ),
    (match) => match[1] ?? match[2] ?? match[3] ?? "",
  );
}

/** The specifiers of which a file imports more than types. */
export function valueImportsOf(file: SourceFile): string[] {
  return importsOf({ ...file, text: file.text.replaceAll(/^(?:import|export) type [^;]*;$/gm, "") });
}
