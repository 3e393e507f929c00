import { ErrorKind, FlotillaError } from "#base/errors.ts";

/**
 * Splits the name of a plugin's program: two digits, by which plugins are ordered, and what it is called.
 *
 * @throws {@link FlotillaError} `unknown`
 * @source containerd/nri v0.12 pkg/api/plugin.go `ParsePluginName`
 */
export function parsePluginName(name: string): { readonly index: string; readonly base: string } {
  const dash = name.indexOf("-");
  if (dash === -1) {
    throw new FlotillaError(ErrorKind.Unknown, `invalid plugin name "${name}", idx-pluginname expected`);
  }
  checkPluginIndex(name.slice(0, dash));
  return { index: name.slice(0, dash), base: name.slice(dash + 1) };
}

/** @throws {@link FlotillaError} `unknown` @source containerd/nri v0.12 pkg/api/plugin.go `CheckPluginIndex` */
export function checkPluginIndex(index: string): void {
  if (index.length !== 2) {
    throw new FlotillaError(ErrorKind.Unknown, `invalid plugin index "${index}", must be 2 digits`);
  }
  if (!/^\d\d$/.test(index)) {
    throw new FlotillaError(ErrorKind.Unknown, `invalid plugin index "${index}" (not [0-9][0-9])`);
  }
}

/** @throws {@link FlotillaError} `unknown` @source containerd/nri v0.12 pkg/api/plugin.go `CheckPluginName` */
export function checkPluginName(name: string): void {
  if (name === "") {
    throw new FlotillaError(ErrorKind.Unknown, "invalid plugin name: name is empty");
  }
  const [bad] = /[^a-zA-Z0-9_.+-]/u.exec(name) ?? [];
  if (bad !== undefined) {
    throw new FlotillaError(ErrorKind.Unknown, `invalid plugin name "${name}": contains invalid character '${bad}'`);
  }
}
