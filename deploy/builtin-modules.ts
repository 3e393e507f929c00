import { builtinModules } from "node:module";
import type { Plugin } from "esbuild";

const namespace = "builtin";
const identifier = /^[A-Za-z_$][\w$]*$/;
/** Modules that few calls need: they are loaded by the first call of one of their functions. */
const lateModules = /^node:(?:child_process|crypto|http|https|tls|worker_threads|zlib)$/;

/**
 * Imports of Node.js's own modules take only the names that are used, and load some modules when they are first used.
 *
 * An `import` of a built-in module reads every name that the module has, some of which load a great deal when they are read:
 * `http` the whole of fetch, `crypto` the Web Crypto API, `util` the terminal. That was a third of what a process did at its
 * start, and 2 MiB that it kept.
 */
export const builtinModulesPlugin: Plugin = {
  name: "builtin-modules",
  setup(build) {
    build.onResolve({ filter: /^[a-z:]/ }, ({ path, kind }) => {
      const isBuiltin = path.startsWith("node:") || builtinModules.includes(path);
      return isBuiltin && kind === "import-statement" ? { path, namespace, sideEffects: false } : undefined;
    });
    build.onLoad({ filter: /.*/, namespace }, ({ path }) => ({ contents: facadeOf(path), loader: "js" }));
  },
};

/** A module that gives the names of a built-in one, each read only where it is imported. */
function facadeOf(path: string): string {
  const builtin = process.getBuiltinModule(path) as Readonly<Record<string, unknown>>;
  const names = Object.keys(builtin).filter((name) => identifier.test(name) && name !== "default");
  return [
    "let loaded;",
    `const load = () => (loaded ??= process.getBuiltinModule(${JSON.stringify(path)}));`,
    "const read = (name) => load()[name];",
    "const builtin = /* @__PURE__ */ load();",
    "export default builtin;",
    ...names.map((name) =>
      // Classes have capital letters, and must be there to be extended and compared with.
      lateModules.test(path) && /^[a-z]/.test(name) && typeof builtin[name] === "function"
        ? `function ${name}$(...given) {\n  return load().${name}(...given);\n}\nexport { ${name}$ as ${name} };`
        : `const ${name}$ = /* @__PURE__ */ read(${JSON.stringify(name)});\nexport { ${name}$ as ${name} };`,
    ),
  ].join("\n");
}
