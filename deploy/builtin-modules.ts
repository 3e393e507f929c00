import { builtinModules, createRequire } from "node:module";
import type { Plugin } from "esbuild";

const namespace = "builtin";
const identifier = /^[A-Za-z_$][\w$]*$/;

/**
 * Imports of Node.js's own modules take only the names that are used.
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
  const require = createRequire(import.meta.url);
  const names = Object.keys(require(path) as object).filter((name) => identifier.test(name) && name !== "default");
  return [
    `const builtin = /* @__PURE__ */ process.getBuiltinModule(${JSON.stringify(path)});`,
    "const read = (name) => builtin[name];",
    "export default builtin;",
    ...names.map(
      (name) => `const ${name}$ = /* @__PURE__ */ read(${JSON.stringify(name)});\nexport { ${name}$ as ${name} };`,
    ),
  ].join("\n");
}
