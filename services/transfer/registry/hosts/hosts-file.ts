import { isAbsolute, join, posix } from "node:path";
import { parse, type TomlTable } from "smol-toml";
import { parseDuration } from "#base/duration.ts";
import { allCapabilities, type Capability, type HostTls } from "./host.ts";

/** A host as a file configures it. */
export interface ConfiguredHost {
  /** Absent when the file says nothing of where it is: then it is the registry itself. */
  readonly address?: { readonly scheme: "http" | "https"; readonly host: string; readonly path: string };
  readonly capabilities: readonly Capability[];
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly tls?: HostTls;
  readonly dialTimeoutMs?: number;
}

/**
 * Reads a `hosts.toml`: the hosts in the order of the file, and the registry itself last.
 *
 * @param directory - Where the file lies; paths in it are relative to it.
 * @throws Error that says what is wrong with the file.
 * @source containerd v2.3.4 core/remotes/docker/config/hosts.go `parseHostsFile`, docs/hosts.md
 */
export function parseHostsFile(text: string, directory: string): ConfiguredHost[] {
  const document = parse(text);
  const mirrors = Object.entries(tableOf(document["host"] ?? {}, "host"));
  return [
    ...mirrors.map(([address, settings]) => parseHost(address, tableOf(settings, `host.${address}`), directory)),
    parseHost(stringOf(document["server"] ?? "", "server"), document, directory),
  ];
}

function parseHost(address: string, settings: TomlTable, directory: string): ConfiguredHost {
  const absolute = (path: string): string => (isAbsolute(path) ? path : join(directory, path));
  const isRootOverridden = settings["override_path"] === true;
  const dialTimeout = stringOf(settings["dial_timeout"] ?? "", "dial_timeout");
  const tls = parseTls(settings, absolute);
  return {
    ...(address === "" ? {} : { address: parseAddress(address, isRootOverridden) }),
    capabilities: parseCapabilities(settings["capabilities"] ?? []),
    headers: parseHeaders(tableOf(settings["header"] ?? {}, "header")),
    ...(tls === undefined ? {} : { tls }),
    ...(dialTimeout === "" ? {} : { dialTimeoutMs: parseDuration(dialTimeout) }),
  };
}

function parseAddress(text: string, isRootOverridden: boolean): NonNullable<ConfiguredHost["address"]> {
  const url = /^(https?):\/\/(?:[^@/?#]*@)?([^@/?#]+)([^?#]*)$/i.exec(
    text.startsWith("http") ? text : `https://${text}`,
  );
  const [, scheme = "", host = "", written = ""] = url ?? [];
  if (host === "") {
    throw new Error(`unable to parse server ${text}`);
  }
  const cleaned = written === "" ? "" : posix.normalize(written).replace(/\/$/, "");
  const path = isRootOverridden || cleaned.endsWith("/v2") ? cleaned : `${cleaned}/v2`;
  return { scheme: scheme.toLowerCase() === "http" ? "http" : "https", host, path };
}

function parseCapabilities(value: unknown): readonly Capability[] {
  const names = stringsOf(value, "capabilities");
  if (names.length === 0) {
    return allCapabilities;
  }
  return names.map((name) => {
    const known = allCapabilities.find((capability) => capability === name.toLowerCase());
    if (known === undefined) {
      throw new Error(`unknown capability ${name}`);
    }
    return known;
  });
}

function parseHeaders(table: TomlTable): (readonly [string, string])[] {
  return Object.entries(table).flatMap(([name, value]) =>
    (typeof value === "string" ? [value] : stringsOf(value, `header ${name}`)).map((text) => [name, text] as const),
  );
}

function parseTls(settings: TomlTable, absolute: (path: string) => string): HostTls | undefined {
  const { ca, client, skip_verify: skipVerify } = settings;
  if (ca === undefined && client === undefined && skipVerify === undefined) {
    return undefined;
  }
  if (skipVerify !== undefined && typeof skipVerify !== "boolean") {
    throw new Error('invalid type for "skip_verify"');
  }
  const caFiles = typeof ca === "string" ? [ca] : stringsOf(ca ?? [], "ca");
  const pairs = typeof client === "string" ? [client] : arrayOf(client ?? [], "client");
  return {
    caFiles: caFiles.map(absolute),
    clientFiles: pairs.map((pair) => {
      const [certificate, key, ...rest] = typeof pair === "string" ? [pair] : stringsOf(pair, "client");
      if (certificate === undefined || rest.length > 0 || (typeof pair !== "string" && key === undefined)) {
        throw new Error('invalid pair for "client"');
      }
      return [absolute(certificate), key === undefined ? undefined : absolute(key)];
    }),
    skipVerify: skipVerify ?? false,
  };
}

function tableOf(value: unknown, name: string): TomlTable {
  if (typeof value !== "object" || value === null || Array.isArray(value) || value instanceof Date) {
    throw new Error(`invalid type for "${name}"`);
  }
  return value as TomlTable;
}

function stringOf(value: unknown, name: string): string {
  if (typeof value !== "string") {
    throw new Error(`invalid type for "${name}"`);
  }
  return value;
}

function arrayOf(value: unknown, name: string): readonly unknown[] {
  if (!Array.isArray(value)) {
    throw new Error(`invalid type for "${name}"`);
  }
  return value;
}

function stringsOf(value: unknown, name: string): string[] {
  return arrayOf(value, name).map((item) => stringOf(item, name));
}
