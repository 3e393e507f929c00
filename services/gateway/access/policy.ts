/** Who is at the other end of a connection, as far as the kernel or a verified certificate tells. */
export type Identity =
  | {
      readonly kind: "user";
      readonly uid: number;
      readonly pid: number;
      /** The group of the process that connected, and those it was in besides. */
      readonly gids: readonly number[];
    }
  | {
      readonly kind: "certificate";
      /** The common name of the subject, "" when it has none. */
      readonly commonName: string;
      /** Its other names, such as `DNS:ci.example.org` or `URI:spiffe://…`. */
      readonly names: readonly string[];
      /** Address and port of the client. */
      readonly peer: string;
    }
  | { readonly kind: "anonymous"; readonly peer: string };

/** A call, as the relay sees it. */
export interface JudgedCall {
  /** Path of the method without the first slash, `package.Service/Method`. */
  readonly method: string;
  /** "" when the call names none. */
  readonly namespace: string;
}

/** What is known of a method, as far as it is judged. */
export interface JudgedMethod {
  /** Whether it changes nothing. */
  readonly reads: boolean;
  /** What the call is about: the namespace that it names; all of them; or nothing that belongs to a namespace. */
  readonly scope: "namespace" | "all" | "none";
}

/** What a rule lets its callers do. */
export const accessLevels = ["full", "read", "none"] as const;
export type AccessLevel = (typeof accessLevels)[number];

/** One rule: for whom, where and for what. What it does not name it takes all of. */
export interface PolicyRule {
  readonly name: string;
  /** Undefined for everybody. Otherwise whoever is among these. */
  readonly callers: RuleCallers | undefined;
  /** Undefined for all. */
  readonly namespaces: readonly RegExp[] | undefined;
  readonly methods: readonly RegExp[] | undefined;
  readonly access: AccessLevel;
}

/** Those whom a rule is for. */
export interface RuleCallers {
  readonly uids: ReadonlySet<number>;
  readonly gids: ReadonlySet<number>;
  /** Common names and other names of certificates. */
  readonly certificates: readonly RegExp[];
}

/** The rules, of which the first that fits decides, and what holds when none does. */
export interface Policy {
  readonly rules: readonly PolicyRule[];
  readonly otherwise: AccessLevel;
}

/** What a policy says of a call. */
export interface Judgement {
  readonly isAllowed: boolean;
  /** The rule that decided; undefined when none fitted. */
  readonly rule: string | undefined;
}

/**
 * Judges a call: the first rule that is for its caller, its namespace and its method decides.
 *
 * A rule that names namespaces is for calls in these, and for those that concern no namespace. Calls that reach over all namespaces, such as the making
 * of one or the stream of all events, need a rule that names none.
 */
export function judge(policy: Policy, who: Identity, call: JudgedCall, { reads, scope }: JudgedMethod): Judgement {
  const rule = policy.rules.find(
    ({ callers, namespaces, methods }) =>
      (callers === undefined || isAmong(who, callers)) &&
      (methods === undefined || methods.some((pattern) => pattern.test(call.method))) &&
      (namespaces === undefined ||
        scope === "none" ||
        (scope === "namespace" && namespaces.some((pattern) => pattern.test(call.namespace)))),
  );
  const access = rule?.access ?? policy.otherwise;
  return { isAllowed: access === "full" || (access === "read" && reads), rule: rule?.name };
}

function isAmong(who: Identity, { uids, gids, certificates }: RuleCallers): boolean {
  if (who.kind === "user") {
    return uids.has(who.uid) || who.gids.some((gid) => gids.has(gid));
  }
  const names = who.kind === "certificate" ? [who.commonName, ...who.names] : [];
  return names.some((name) => name !== "" && certificates.some((pattern) => pattern.test(name)));
}

/** Makes an expression of a pattern in which `*` stands for any text. */
export function compilePattern(pattern: string): RegExp {
  return new RegExp(`^${pattern.split("*").map(escapeText).join(".*")}$`, "s");
}

/**
 * Makes an expression of the pattern of a method: `containerd.services.images.v1.Images/Create`, or `Images/*`, which is any service of that name.
 */
export function compileMethodPattern(pattern: string): RegExp {
  const isShort = /^[^./]+(?:\/|$)/.test(pattern) && !pattern.startsWith("*");
  return isShort ? compilePattern(`*.${pattern}`) : compilePattern(pattern);
}

function escapeText(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
}

/** A few words for who calls, for the one who is told that he may not. */
export function describeIdentity(who: Identity): string {
  if (who.kind === "user") {
    return `user ${who.uid}`;
  }
  return who.kind === "certificate"
    ? `certificate ${JSON.stringify(who.commonName || (who.names[0] ?? ""))}`
    : "who has no certificate";
}
