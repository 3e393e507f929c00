import { readFile, stat } from "node:fs/promises";
import { errorMessage, systemErrorCode } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import type { ConfigSource } from "./config.ts";
import { defaultDocument } from "./defaults.ts";
import { type ConfigDocument, configVersion, documentShape, parseDocument } from "./document.ts";
import { goSystemErrorText } from "./go-system-error.ts";
import { resolveImports } from "./imports.ts";
import type { ConfigurablePlugin } from "./manifest.ts";
import { migrateDocument } from "./migrate.ts";
import { knownTables } from "./plugin-tables.ts";
import { mergeShaped } from "./shape.ts";

/** The configuration as the files give it, merged, at the present version, and without settings that nobody knows. */
export interface LoadedDocument {
  readonly document: ConfigDocument;
  readonly sources: readonly ConfigSource[];
  readonly warnings: readonly string[];
}

/** More files than this are taken for a mistake, such as an import of a whole directory tree. */
const filesMax = 1_000;

/**
 * Reads a configuration file and what it imports, breadth first, and merges each over what was read before it. A file that several
 * import is read once, so that cycles end.
 *
 * @param path - Absolute.
 * @param plugins - Those whose tables are migrated and checked for unknown keys; the tables of others stay as they are.
 * @param options.mayBeMissing - Whether the defaults hold when there is no such file.
 * @throws Error when a file can't be read or understood, has a higher version than the first one, or names a plugin badly.
 * @source containerd v2.3.4 cmd/containerd/server/config/config.go `LoadConfigWithPlugins`
 */
export async function loadDocument(
  path: string,
  plugins: readonly ConfigurablePlugin[],
  { mayBeMissing = false }: { readonly mayBeMissing?: boolean } = {},
): Promise<LoadedDocument> {
  const warnings: string[] = [];
  const warn = (warning: string): void => {
    warnings.push(warning);
  };
  const sources: ConfigSource[] = [];
  const pending = mayBeMissing && !(await exists(path)) ? [] : [path];
  const loaded = new Set<string>();
  let document = defaultDocument;
  let rootVersion = 0;
  for (let file = pending.shift(); file !== undefined; file = pending.shift()) {
    if (loaded.has(file)) {
      continue;
    }
    if (loaded.size >= filesMax) {
      throw new Error(`failed to load TOML from ${file}: more than ${filesMax} configuration files`);
    }
    loaded.add(file);
    const written = parseDocument(await readText(file), file, warn);
    const version = written.version ?? 0;
    rootVersion ||= version;
    if (version > rootVersion) {
      throw new Error(`${file}: drop-in config version ${version} higher than root config version ${rootVersion}`);
    }
    checkVersion(version, file);
    warnOfMovedSections(written, file, warn);
    const migrated = migrateDocument(written, plugins, (warning) => warn(`${file}: ${warning}`));
    checkPluginNames(migrated, file);
    document = merge(document, migrated, file);
    sources.push({ file, plugins: migrated.plugins ?? {} });
    pending.push(...(await resolveImports(file, written.imports ?? [])));
  }
  if (document.plugins !== undefined) {
    document = { ...document, plugins: knownTables(document.plugins, plugins, warn) };
  }
  return { document, sources, warnings };
}

function merge(older: ConfigDocument, newer: ConfigDocument, file: string): ConfigDocument {
  try {
    return mergeShaped(documentShape, older, newer);
  } catch (error) {
    throw new Error(`failed to merge TOML from ${file}: ${errorMessage(error)}`, { cause: error });
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    return systemErrorCode(error) !== "ENOENT";
  }
}

/** Fails with the text that Go gives, which users know. */
async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    throw new Error(`open ${file}: ${goSystemErrorText(error)}`, { cause: error });
  }
}

function checkVersion(version: number, file: string): void {
  if (version > configVersion) {
    throw new Error(
      `failed to load TOML from ${file}: expected containerd config version equal to or less than \`${configVersion}\`, got \`${version}\``,
    );
  }
  if (version < 0) {
    throw new Error(`failed to load TOML from ${file}: invalid config version \`${version}\``);
  }
}

/** @source containerd v2.3.4 cmd/containerd/server/config/config.go `(*Config).ValidateVersion` */
function checkPluginNames(document: ConfigDocument, file: string): void {
  for (const [what, names] of [
    ["disabled", document.disabled_plugins],
    ["required", document.required_plugins],
  ] as const) {
    const bad = names?.find((name) => !name.includes("."));
    if (bad !== undefined) {
      throw new Error(
        `failed to load TOML from ${file}: invalid ${what} plugin URI ${quote(bad)} expect io.containerd.x.vx`,
      );
    }
  }
}

/** From version 4 on containerd passes these sections over without a word, which hides that they have no effect. */
function warnOfMovedSections(document: ConfigDocument, file: string, warn: (warning: string) => void): void {
  if (document.version !== configVersion) {
    return;
  }
  for (const section of ["grpc", "ttrpc", "metrics"] as const) {
    if (document[section] !== undefined) {
      warn(
        `Ignoring [${section}] in TOML: ${file}: from version ${configVersion} on it is [plugins."io.containerd.server.v1.${section}"]`,
      );
    }
  }
}
