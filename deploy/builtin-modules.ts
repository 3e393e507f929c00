import { builtinModules } from "node:module";
import type { ImportKind, Plugin } from "esbuild";

const identifier = /^[A-Za-z_$][\w$]*$/;
/** Modules that few calls need: they are loaded when something of theirs is first used. */
const lateModules = /^(?:node:)?(?:child_process|crypto|http|https|tls|v8|worker_threads|zlib)$/;

/** What stands in for a built-in module, by how it is asked for. */
const facades: Readonly<Partial<Record<ImportKind, (path: string) => string>>> = {
  "import-statement": importedFacade,
  "dynamic-import": awaitedFacade,
  "require-call": requiredFacade,
};

/**
 * Imports of Node.js's own modules take only the names that are used, and load some modules when they are first used.
 *
 * An `import` of a built-in module reads every name that the module has, some of which load a great deal when they are read:
 * `http` the whole of fetch, `crypto` the Web Crypto API, `util` the terminal. That was a third of what a process did at its
 * start, and 2 MiB that it kept. What stands in for a module is one file for all programs, so that what a single one wants of it at its start,
 * be it a constant, would load it in all of them: `crypto` takes 0.8 MiB, `tls` 1.7.
 */
export const builtinModulesPlugin: Plugin = {
  name: "builtin-modules",
  setup(build) {
    build.onResolve({ filter: /^[a-z:]/ }, ({ path, kind }) => {
      const isBuiltin = path.startsWith("node:") || builtinModules.includes(path);
      const isServed = kind in facades && (kind !== "require-call" || lateModules.test(path));
      return isBuiltin && isServed ? { path, namespace: kind, sideEffects: false } : undefined;
    });
    for (const [kind, facadeOf] of Object.entries(facades)) {
      build.onLoad({ filter: /.*/, namespace: kind }, ({ path }) => ({ contents: facadeOf(path), loader: "js" }));
    }
  },
};

function propertiesOf(path: string): [name: string, property: PropertyDescriptor][] {
  const properties = Object.getOwnPropertyDescriptors(process.getBuiltinModule(path) as object);
  return Object.entries(properties).filter(([name]) => identifier.test(name) && name !== "default");
}

/** `load` gives the module; `late` an object that becomes another when it is first looked into. */
function helpersOf(path: string): string {
  return `let loaded;
const load = () => (loaded ??= process.getBuiltinModule(${JSON.stringify(path)}));
const late = (find) => new Proxy({}, {
  get: (_, name) => find()[name],
  has: (_, name) => name in find(),
  ownKeys: () => Reflect.ownKeys(find()),
  getOwnPropertyDescriptor: (_, name) => {
    const property = Reflect.getOwnPropertyDescriptor(find(), name);
    return property && { ...property, configurable: true };
  },
});`;
}

/** A module that gives the names of a built-in one, each read only where it is imported. */
function importedFacade(path: string): string {
  const isLate = lateModules.test(path);
  return [
    helpersOf(path),
    "const read = (name) => load()[name];",
    `const builtin = /* @__PURE__ */ ${isLate ? "late(load)" : "load()"};`,
    "export default builtin;",
    ...propertiesOf(path).map(
      ([name, { value }]) => `${isLate ? lateName(name, value) : readName(name)}\nexport { ${name}$ as ${name} };`,
    ),
  ].join("\n");
}

function readName(name: string): string {
  return `const ${name}$ = /* @__PURE__ */ read(${JSON.stringify(name)});`;
}

/** A name of a module that is loaded when the name is first used. */
function lateName(name: string, value: unknown): string {
  if (typeof value === "object" && value !== null) {
    return `const ${name}$ = /* @__PURE__ */ late(() => load().${name});`;
  }
  if (typeof value !== "function") {
    return readName(name);
  }
  // Classes have capital letters. They may be made and compared with; one that extends them must have them at once.
  return /^[a-z]/.test(name)
    ? `function ${name}$(...given) {\n  return load().${name}(...given);\n}`
    : `class ${name}$ {
  constructor(...given) {
    if (new.target !== ${name}$) throw new TypeError("${name} can't be extended in a bundle");
    return new (load().${name})(...given);
  }
  static [Symbol.hasInstance](value) {
    return value instanceof load().${name};
  }
}`;
}

/** The same for an `import()`, which wants the module now, with the names that are there without being made when they are read. */
function awaitedFacade(path: string): string {
  const names = propertiesOf(path).flatMap(([name, property]) => ("value" in property ? [name] : []));
  return [
    `const builtin = process.getBuiltinModule(${JSON.stringify(path)});`,
    "export default builtin;",
    ...names.map((name) => `const ${name}$ = builtin.${name};\nexport { ${name}$ as ${name} };`),
  ].join("\n");
}

/** The same for a `require` of a package in CommonJS, which names what it may need at its start. */
function requiredFacade(path: string): string {
  return `${helpersOf(path)}\nmodule.exports = late(load);`;
}
