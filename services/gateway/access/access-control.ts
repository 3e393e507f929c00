import type { Socket } from "node:net";
import { Code } from "@connectrpc/connect";
import type { AuditedCall, ConnectionAccess, RelayAccess, RequestedCall } from "../relay/access.ts";
import type { AuditRecord } from "./audit-log.ts";
import { ObjectReader } from "./call-object.ts";
import { identityOf } from "./identity.ts";
import type { MethodFacts } from "./method-facts.ts";
import { describeIdentity, type Identity, type Judgement, judge, type Policy } from "./policy.ts";

/** The longest name of a namespace that is one. Longer ones are cut in the audit. @source containerd v2.3.4 pkg/identifiers/validate.go `maxLength` */
const namespaceLengthMax = 76;
/** Judgements that are remembered for each connection. */
const judgementsMax = 256;

export interface AccessControlOptions {
  /** The policy at this moment; undefined when there is none, so that everybody may do everything. */
  policy(): Policy | undefined;
  /** By `package.Service/Method`. */
  readonly methods: ReadonlyMap<string, MethodFacts>;
  /** Gets a record of each call that changes something, and of each that was refused. */
  audit(record: AuditRecord): void;
}

/** Judges the calls of clients by the policy, before any process hears of them, and keeps the audit. */
export class AccessControl implements RelayAccess {
  readonly #options: AccessControlOptions;

  constructor(options: AccessControlOptions) {
    this.#options = options;
  }

  /** @throws {@link FlotillaError} `failed_precondition` when the socket is closed already. */
  accept(socket: Socket): ConnectionAccess {
    return new ClientAccess(this.#options, identityOf(socket));
  }
}

class ClientAccess implements ConnectionAccess {
  readonly #options: AccessControlOptions;
  readonly #who: Identity;
  readonly #judged = new Map<string, Judgement>();
  #judgedBy: Policy | undefined;

  constructor(options: AccessControlOptions, who: Identity) {
    this.#options = options;
    this.#who = who;
  }

  denialOf({ path, namespaces }: RequestedCall): string | undefined {
    const { methods } = this.#options;
    const method = path.slice(1);
    const facts = methods.get(method);
    const [namespace = ""] = namespaces;
    if (facts === undefined) {
      return undefined;
    }
    // Two names could be read as one here and as the other there.
    const judgement =
      namespaces.length > 1 ? { isAllowed: false, rule: undefined } : this.#judge(method, namespace, facts);
    if (judgement.isAllowed) {
      return undefined;
    }
    // Its request is not looked at.
    const denied = { method, namespace, rule: judgement.rule, object: undefined };
    this.#record(denied, performance.now(), Code.PermissionDenied);
    const where = namespace === "" ? "" : ` in namespace ${JSON.stringify(cut(namespace))}`;
    return `${method}${where} is denied to ${describeIdentity(this.#who)}: permission denied`;
  }

  watch({ path, namespaces, contentType }: RequestedCall): AuditedCall | undefined {
    const method = path.slice(1);
    const facts = this.#options.methods.get(method);
    if (facts === undefined || facts.reads) {
      return undefined;
    }
    const [namespace = ""] = namespaces;
    const { rule } = this.#judge(method, namespace, facts);
    const beganMs = performance.now();
    const object = new ObjectReader(facts.object, contentType);
    return {
      requestBytes: (chunk, start, end) => object.take(chunk, start, end),
      requestMessage: () => undefined,
      responseMessage: () => undefined,
      end: (code) => this.#record({ method, namespace, rule, object: object.get() }, beganMs, code),
    };
  }

  #judge(method: string, namespace: string, facts: MethodFacts): Judgement {
    const policy = this.#options.policy();
    if (policy === undefined) {
      return { isAllowed: true, rule: undefined };
    }
    if (policy !== this.#judgedBy || this.#judged.size >= judgementsMax) {
      this.#judged.clear();
      this.#judgedBy = policy;
    }
    const key = `${method} ${namespace}`;
    let judgement = this.#judged.get(key);
    if (judgement === undefined) {
      judgement = judge(policy, this.#who, { method, namespace }, facts);
      this.#judged.set(key, judgement);
    }
    return judgement;
  }

  #record(
    { method, namespace, rule, object }: Pick<AuditRecord, "method" | "namespace" | "rule" | "object">,
    beganMs: number,
    code: Code | undefined,
  ): void {
    this.#options.audit({
      time: new Date().toISOString(),
      who: shownIdentity(this.#who),
      namespace: cut(namespace),
      method,
      object,
      rule,
      outcome: nameOfCode(code),
      durMs: Math.round(performance.now() - beganMs),
    });
  }
}

function shownIdentity(who: Identity): object {
  if (who.kind === "user") {
    return { uid: who.uid, gid: who.gids[0], pid: who.pid };
  }
  return who.kind === "certificate"
    ? { certificate: who.commonName, names: who.names, peer: who.peer }
    : { peer: who.peer };
}

function cut(namespace: string): string {
  return namespace.slice(0, namespaceLengthMax);
}

/** `ok`, or the code as Connect writes it; `unseen` where no end came by, such as of a call that its client has left. */
function nameOfCode(code: Code | undefined): string {
  if (code === undefined) {
    return "unseen";
  }
  return (code as number) === 0 ? "ok" : (Code[code] ?? "unknown").replace(/(?<=[a-z])(?=[A-Z])/g, "_").toLowerCase();
}
