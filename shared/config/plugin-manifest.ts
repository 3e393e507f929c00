import { parse } from "smol-toml";
import { ErrorKind, errorMessage, failure } from "#base/errors.ts";
import { type Shaped, shapeValue } from "./shape.ts";
import { formatKey } from "./toml-table.ts";

/** What a manifest in the plugin directory may say. */
const manifestShape = {
  fields: {
    type: "string",
    path: "string",
    args: "strings",
    env: "strings",
    platform: "string",
    exports: { each: "string" },
    capabilities: "strings",
  },
} as const;

/** The manifest of a program that is a plugin. */
export interface PluginProgram {
  /** `snapshot`, `content`, `diff`, `sandbox`, or a full type. */
  readonly type: string;
  /** Absolute path of the program. */
  readonly path: string;
  /** `{socket}` and `{root}` in them stand for the socket to serve and for a directory of its own. */
  readonly args: readonly string[];
  /** `NAME=value`, added to the daemon's environment. */
  readonly env: readonly string[];
  readonly platform: string;
  readonly exports: Readonly<Record<string, string>>;
  readonly capabilities: readonly string[];
}

/** Items in one list, and bytes in one text, of a manifest; more is a mistake. */
const itemsMax = 64;
const textBytesMax = 4096;
const environmentPattern = /^[A-Za-z_][A-Za-z0-9_]*=/;

/**
 * Reads a manifest. It says what is run as the daemon's user, so that nothing in it is passed over: a key that nobody knows is refused.
 *
 * @throws {@link FlotillaError} `invalid_argument` that names what is wrong.
 */
export function parsePluginManifest(text: string): PluginProgram {
  let manifest: Shaped<typeof manifestShape>;
  try {
    manifest = shapeValue(manifestShape, parse(text, { unsafeKeyBehaviour: "throw" }), (path) => {
      throw new Error(`nobody knows ${formatKey(path)}`);
    });
  } catch (error) {
    throw refusal(errorMessage(error).split("\n")[0] ?? "");
  }
  const { type = "", path = "", args = [], env = [], platform = "", exports = {}, capabilities = [] } = manifest;
  if (!/^(?:\/[^/\0]+)+$/.test(path) || path.split("/").includes("..") || path.split("/").includes(".")) {
    throw refusal(`path must be the whole path of a program, not ${JSON.stringify(path)}`);
  }
  if (!env.every((entry) => environmentPattern.test(entry))) {
    throw refusal("env must hold NAME=value");
  }
  for (const list of [args, env, capabilities, Object.keys(exports), Object.values(exports)]) {
    if (list.length > itemsMax) {
      throw refusal(`a list has more than ${itemsMax} items`);
    }
  }
  const texts = [type, path, platform, ...args, ...env, ...capabilities, ...Object.entries(exports).flat()];
  if (texts.some((each) => Buffer.byteLength(each) > textBytesMax || each.includes("\0"))) {
    throw refusal(`a text has more than ${textBytesMax} bytes, or a NUL in it`);
  }
  return { type, path, args, env, platform, exports, capabilities };
}

function refusal(reason: string): Error {
  return failure(ErrorKind.InvalidArgument, reason);
}
