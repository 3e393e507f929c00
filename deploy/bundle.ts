import { globSync } from "node:fs";
import { build } from "esbuild";
import { bundleName } from "#fleet/program.ts";
import { builtinModulesPlugin } from "./builtin-modules.ts";

/**
 * Bundles the programs of the fleet: from every `services/NAME/main.ts` and `services/NAME/standalone-main.ts`, and from every thread (`*thread-main.ts`), one file that
 * holds what is loaded at its start. What they load when they first need it, and what that shares with the start, are further files.
 *
 *   node deploy/bundle.ts DIRECTORY     run in the repository; DIRECTORY lies two levels below it, as sources do
 *
 * Names stay as they are written, and source maps lie beside the files, so that stack traces and profiles can be read. Packages with
 * native code are not bundled: they are found in `node_modules` from the bundle as from the sources.
 */
async function bundleFleet(directory: string): Promise<void> {
  const sources = globSync([
    "services/*/main.ts",
    "services/*/standalone-main.ts",
    "services/**/*thread-main.ts",
  ]).sort();
  await Promise.all(sources.map((source) => bundleProgram(source, directory)));
}

/**
 * Each by itself. What programs share would be parted into as many files as there are sets of programs that share something: a hundred for each
 * to find, read and link at its start, which was a fifth of the processor time that the fleet took to start. No process has any use for
 * another's files.
 */
async function bundleProgram(source: string, directory: string): Promise<void> {
  await build({
    entryPoints: [{ in: source, out: bundleName(source) }],
    outdir: directory,
    bundle: true,
    // Less text to read and to keep: 4 MiB for the fleet. Lines stay short enough to be shown.
    minifyWhitespace: true,
    minifySyntax: true,
    lineLimit: 120,
    splitting: true,
    format: "esm",
    platform: "node",
    target: `node${process.versions.node}`,
    plugins: [builtinModulesPlugin],
    external: ["better-sqlite3", "koffi"],
    // Packages in CommonJS ask for modules of Node.js by `require`.
    banner: {
      js: 'import { createRequire as requireOfBundle } from "node:module";\nconst require = requireOfBundle(import.meta.url);',
    },
    sourcemap: "linked",
    sourcesContent: false,
    // Their letters beyond ASCII would make the text of a whole file take two bytes a character.
    legalComments: "external",
    logLevel: "warning",
  });
}

const [directory] = process.argv.slice(2);
if (directory === undefined) {
  process.stderr.write("usage: node deploy/bundle.ts DIRECTORY\n");
  process.exit(2);
}
await bundleFleet(directory);
