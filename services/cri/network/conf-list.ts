import { ErrorKind, errorMessage, FlotillaError } from "#base/errors.ts";
import { compareVersions, versionMax } from "./version.ts";

/** One program of a network and what it is told. */
export interface CniPlugin {
  readonly type: string;
  /** What it can be told of each pod, by name. */
  readonly capabilities: Readonly<Record<string, boolean>>;
  readonly conf: Readonly<Record<string, unknown>>;
}

/** A network: programs that are run one after the other. @source CNI specification 1.1, section 1 */
export interface CniNetwork {
  readonly name: string;
  readonly cniVersion: string;
  readonly disableCheck: boolean;
  readonly plugins: readonly CniPlugin[];
  /** The text of its file. */
  readonly source: string;
}

/**
 * Reads a list of configurations.
 *
 * @throws {@link FlotillaError} `unknown` with the text of libcni.
 * @source containernetworking/cni v1.3 libcni/conf.go `NetworkConfFromBytes`
 */
export function parseConfList(text: string): CniNetwork {
  const list = parseObject(text, "error parsing configuration list");
  const { name, plugins } = list;
  if (typeof name !== "string") {
    throw unfit(
      name === undefined
        ? "error parsing configuration list: no name"
        : "error parsing configuration list: invalid name type",
    );
  }
  if (plugins !== undefined && !Array.isArray(plugins)) {
    throw unfit("error parsing configuration list: invalid 'plugins' type");
  }
  if (plugins?.length === 0) {
    throw unfit("error parsing configuration list: no plugins in list");
  }
  return {
    name,
    cniVersion: chooseVersion(list),
    disableCheck: readFlag(list, "disableCheck"),
    plugins: (plugins ?? []).map((plugin: unknown, index) =>
      readPlugin(plugin, `failed to parse plugin config ${index}`),
    ),
    source: text,
  };
}

/**
 * Reads a single configuration as a list of one.
 *
 * @throws {@link FlotillaError} `unknown` with the text of libcni.
 * @source containernetworking/cni v1.3 libcni/conf.go `ConfListFromConf`
 */
export function parseConf(text: string): CniNetwork {
  const conf = parseObject(text, "error parsing configuration");
  const plugin = readPlugin(conf, "error parsing configuration");
  const name = conf["name"];
  return {
    name: typeof name === "string" ? name : "",
    cniVersion: typeof conf["cniVersion"] === "string" ? conf["cniVersion"] : "",
    disableCheck: false,
    plugins: [plugin],
    source: text,
  };
}

function readPlugin(value: unknown, context: string): CniPlugin {
  if (!isObject(value)) {
    throw unfit(`${context}: not an object`);
  }
  const { type, capabilities } = value;
  if (typeof type !== "string" || type === "") {
    throw unfit(`${context}: error parsing configuration: missing 'type'`);
  }
  return {
    type,
    capabilities: isObject(capabilities)
      ? Object.fromEntries(Object.entries(capabilities).map(([key, enabled]) => [key, enabled === true]))
      : {},
    conf: value,
  };
}

/** The newest version that both the list and we know. */
function chooseVersion({ cniVersion, cniVersions }: Readonly<Record<string, unknown>>): string {
  if (cniVersion !== undefined && typeof cniVersion !== "string") {
    throw unfit("error parsing configuration list: invalid cniVersion type");
  }
  if (cniVersions === undefined) {
    return cniVersion ?? "";
  }
  if (!Array.isArray(cniVersions) || !cniVersions.every((version) => typeof version === "string")) {
    throw unfit("error parsing configuration list: invalid type for cniVersions");
  }
  const known = [...cniVersions, ...(cniVersion === undefined || cniVersion === "" ? [] : [cniVersion])]
    .filter((version) => compareVersions(version, versionMax) <= 0)
    .sort(compareVersions);
  return known.at(-1) ?? cniVersion ?? "";
}

function readFlag(list: Readonly<Record<string, unknown>>, key: string): boolean {
  const value = list[key];
  if (value === undefined || typeof value === "boolean") {
    return value ?? false;
  }
  const text = typeof value === "string" ? value.toLowerCase() : "";
  if (text !== "true" && text !== "false") {
    throw unfit(`error parsing configuration list: invalid value for ${key}`);
  }
  return text === "true";
}

function parseObject(text: string, context: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw unfit(`${context}: ${errorMessage(error)}`);
  }
  if (!isObject(value)) {
    throw unfit(`${context}: not an object`);
  }
  return value;
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function unfit(message: string): FlotillaError {
  return new FlotillaError(ErrorKind.Unknown, message);
}
