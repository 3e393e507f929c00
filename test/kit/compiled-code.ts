import { fileURLToPath } from "node:url";

/**
 * Environment of a program that runs from its sources: its modules are compiled once for all who load them, which takes as long as running
 * them does in most tests. Node.js tells by their content whether what it kept is still good.
 *
 * @source nodejs.org/api/module.html `NODE_COMPILE_CACHE`
 */
export const compiledCode = {
  NODE_COMPILE_CACHE: fileURLToPath(new URL("../../node_modules/.cache/compiled", import.meta.url)),
} as const;
