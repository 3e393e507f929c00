import { ErrorKind, errorMessage, FlotillaError, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import type { CniNetwork, CniPlugin } from "./conf-list.ts";
import { type Attachment, type CniCommand, runPlugin } from "./plugin-program.ts";
import type { CniResult } from "./result.ts";
import type { ResultCache } from "./result-cache.ts";
import { compareVersions } from "./version.ts";

/** What networks are run with. */
export interface NetworkTools {
  /** Where programs are. */
  readonly directories: readonly string[];
  readonly cache: ResultCache;
}

type Json = Readonly<Record<string, unknown>>;

/** Since when DEL and CHECK are given the result. @source containernetworking/cni v1.3 libcni/api.go `DelNetworkList` */
const cachedResultSince = "0.4.0";
/** Since when there is STATUS. */
const statusSince = "1.1.0";

const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;

/**
 * Attaches a pod to a network: runs its programs one after the other, each with the result of the one before.
 *
 * When this fails, what was attached stays until {@link removeNetwork}.
 *
 * @throws {@link FlotillaError} `unknown` with libcni's text.
 * @source containernetworking/cni v1.3 libcni/api.go `AddNetworkList`
 */
export async function addNetwork(
  tools: NetworkTools,
  network: CniNetwork,
  attachment: Attachment,
  signal?: AbortSignal,
): Promise<CniResult> {
  if (!namePattern.test(network.name)) {
    throw new FlotillaError(ErrorKind.Unknown, `invalid characters found in network name: ${network.name}`);
  }
  let result: Json | undefined;
  for (const plugin of network.plugins) {
    try {
      const text = await run(tools, network, plugin, { command: "ADD", attachment, previous: result, signal });
      result = readResult(text, network.cniVersion);
    } catch (error) {
      throw wrapFailure(error, `plugin ${describe(plugin)} failed (add)`);
    }
  }
  const whole = result ?? {};
  await tools.cache.put(network, attachment, whole).catch((error: unknown) => {
    throw wrapFailure(error, `failed to set network ${quote(network.name)} cached result`);
  });
  return normalizeResult(whole);
}

/**
 * Undoes an attachment. May be repeated.
 *
 * @throws {@link FlotillaError} `unknown` with libcni's text.
 * @source containernetworking/cni v1.3 libcni/api.go `DelNetworkList`
 */
export async function removeNetwork(tools: NetworkTools, network: CniNetwork, attachment: Attachment): Promise<void> {
  const isNew = compareVersions(network.cniVersion, cachedResultSince) >= 0;
  const previous = isNew ? await tools.cache.find(network, attachment) : undefined;
  for (const plugin of network.plugins.toReversed()) {
    try {
      await run(tools, network, plugin, { command: "DEL", attachment, previous, signal: undefined });
    } catch (error) {
      throw wrapFailure(error, `plugin ${describe(plugin)} failed (delete)`);
    }
  }
  await tools.cache.remove(network, attachment);
}

/**
 * Asks the programs of a network whether they could attach a pod now. Networks of older versions are not asked.
 *
 * @throws {@link FlotillaError} what the first one says that could not.
 * @source containernetworking/cni v1.3 libcni/api.go `GetStatusNetworkList`
 */
export async function checkNetworkStatus(tools: NetworkTools, network: CniNetwork): Promise<void> {
  if (compareVersions(network.cniVersion, statusSince) < 0) {
    return;
  }
  for (const plugin of network.plugins) {
    await run(tools, network, plugin, {
      command: "STATUS",
      attachment: undefined,
      previous: undefined,
      signal: undefined,
    });
  }
}

interface Run {
  readonly command: CniCommand;
  readonly attachment: Attachment | undefined;
  readonly previous: Json | undefined;
  readonly signal: AbortSignal | undefined;
}

function run(
  { directories }: NetworkTools,
  { name, cniVersion }: CniNetwork,
  plugin: CniPlugin,
  { command, attachment, previous, signal }: Run,
): Promise<string> {
  const runtimeConfig = Object.fromEntries(
    Object.entries(attachment?.capabilities ?? {}).filter(([capability]) => plugin.capabilities[capability] === true),
  );
  const conf = {
    ...plugin.conf,
    name,
    cniVersion,
    ...(previous === undefined ? {} : { prevResult: previous }),
    ...(Object.keys(runtimeConfig).length === 0 ? {} : { runtimeConfig }),
  };
  return runPlugin({ command, type: plugin.type, directories, conf, attachment, signal });
}

function describe({ type, conf }: CniPlugin): string {
  const name = conf["name"];
  return `type=${quote(type)}${typeof name === "string" && name !== "" ? ` name=${quote(name)}` : ""}`;
}

/** What a program printed. One that says nothing of its version has that of the network. */
function readResult(text: string, cniVersion: string): Json {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new FlotillaError(ErrorKind.Unknown, `unable to parse the result ${quote(text)}: ${errorMessage(error)}`);
  }
  if (typeof value !== "object" || value === null) {
    throw new FlotillaError(ErrorKind.Unknown, `unable to parse the result ${quote(text)}`);
  }
  return { cniVersion, ...value };
}

/** Results up to version 0.2 have an address of each version of IP. @source CNI specification 0.2.0, Result */
function normalizeResult(result: Json): CniResult {
  const old = [result["ip4"], result["ip6"]].filter((part) => typeof part === "object" && part !== null) as {
    readonly ip?: string;
    readonly gateway?: string;
    readonly routes?: readonly Json[];
  }[];
  if (old.length === 0) {
    return result;
  }
  return {
    ips: old.flatMap(({ ip, gateway }) =>
      ip === undefined ? [] : [{ address: ip, ...(gateway === undefined ? {} : { gateway }) }],
    ),
    routes: old.flatMap(({ routes = [] }) => routes),
    ...(typeof result["dns"] === "object" && result["dns"] !== null ? { dns: result["dns"] as Json } : {}),
  };
}
