import { parse } from "smol-toml";
import { ErrorKind, errorMessage, failure } from "#base/errors.ts";
import { PluginSettings } from "#config/settings.ts";
import { groupId, userId } from "#linux/accounts.ts";
import {
  accessLevels,
  compileMethodPattern,
  compilePattern,
  type Policy,
  type PolicyRule,
  type RuleCallers,
} from "./policy.ts";

/** More rules than anybody reads. */
const rulesMax = 1_000;

const topKeys = ["version", "default", "rules"];
const ruleKeys = ["name", "users", "groups", "certificates", "namespaces", "methods", "access"];

/**
 * Reads a policy:
 *
 *     version = 1
 *     default = "none"              # what holds for calls that no rule is for; "none" unless given
 *
 *     [[rules]]                     # the first rule that fits decides
 *     name = "builders"             # shown in the audit
 *     users = ["alice", 1000]       # by the credentials of the socket; names or ids
 *     groups = ["docker"]
 *     certificates = ["ci-*"]       # common name or other name of a verified certificate
 *     namespaces = ["build-*"]      # all unless given
 *     methods = ["Images/*", "containerd.services.content.v1.Content/Read"]
 *     access = "read"               # "full", "read" or "none"
 *
 * Whoever misspells a key means something else than what would be read, so unknown keys are refused, and so are users that do not exist and patterns
 * that no method has.
 *
 * @param methods - The methods that there are, `package.Service/Method`.
 * @throws {@link FlotillaError} `invalid_argument` that names the file and what is wrong in it.
 */
export function parsePolicy(text: string, file: string, methods: readonly string[]): Policy {
  let table: Record<string, unknown>;
  try {
    table = parse(text);
  } catch (error) {
    throw failure(ErrorKind.InvalidArgument, `${file}: ${errorMessage(error)}`);
  }
  try {
    return readPolicy(new PluginSettings(table, [], []), methods);
  } catch (error) {
    throw failure(ErrorKind.InvalidArgument, `${file}: ${errorMessage(error)}`);
  }
}

function readPolicy(settings: PluginSettings, methods: readonly string[]): Policy {
  refuseUnknown(settings, topKeys);
  if (settings.integer("version") !== 1) {
    throw new Error("version: this daemon reads policies of version 1");
  }
  const rules = settings.has("rules") ? settings.tables("rules") : [];
  if (rules.length > rulesMax) {
    throw new Error(`rules: more than ${rulesMax}`);
  }
  return {
    otherwise: settings.has("default") ? settings.choice("default", accessLevels) : "none",
    rules: rules.map((rule, index) => readRule(rule, `rule ${index + 1}`, methods)),
  };
}

function readRule(settings: PluginSettings, place: string, methods: readonly string[]): PolicyRule {
  const name = settings.has("name") ? settings.string("name") : place;
  try {
    refuseUnknown(settings, ruleKeys);
    return {
      name,
      callers: readCallers(settings),
      namespaces: patterns(settings, "namespaces")?.map(compilePattern),
      methods: patterns(settings, "methods")?.map((pattern) => readMethodPattern(pattern, methods)),
      access: settings.choice("access", accessLevels),
    };
  } catch (error) {
    throw new Error(`${name}: ${errorMessage(error)}`, { cause: error });
  }
}

function readCallers(settings: PluginSettings): RuleCallers | undefined {
  const users = namesOrIds(settings, "users");
  const groups = namesOrIds(settings, "groups");
  const certificates = patterns(settings, "certificates");
  if (users === undefined && groups === undefined && certificates === undefined) {
    return undefined;
  }
  return {
    uids: new Set(users?.map((user) => idOf(user, userId, "user"))),
    gids: new Set(groups?.map((group) => idOf(group, groupId, "group"))),
    certificates: (certificates ?? []).map(compilePattern),
  };
}

function readMethodPattern(pattern: string, methods: readonly string[]): RegExp {
  const compiled = compileMethodPattern(pattern);
  if (!methods.some((method) => compiled.test(method))) {
    throw new Error(`there is no method ${JSON.stringify(pattern)}`);
  }
  return compiled;
}

function patterns(settings: PluginSettings, key: string): readonly string[] | undefined {
  return settings.has(key) ? settings.strings(key) : undefined;
}

function namesOrIds(settings: PluginSettings, key: string): readonly (string | number)[] | undefined {
  return settings.has(key) ? settings.list(key).map((item) => nameOrId(item, key)) : undefined;
}

function nameOrId(item: unknown, key: string): string | number {
  if (typeof item === "string" || (typeof item === "number" && Number.isInteger(item) && item >= 0)) {
    return item;
  }
  throw new Error(`${key}: expected names and ids`);
}

function idOf(item: string | number, find: (name: string) => number | undefined, what: string): number {
  const id = typeof item === "number" ? item : find(item);
  if (id === undefined) {
    throw new Error(`there is no ${what} ${JSON.stringify(item)}`);
  }
  return id;
}

function refuseUnknown(settings: PluginSettings, known: readonly string[]): void {
  const unknown = settings.keys().find((key) => !known.includes(key));
  if (unknown !== undefined) {
    throw new Error(`there is no setting ${JSON.stringify(unknown)}`);
  }
}
