/** What a client wants of a container, on its record. @source containerd v2.3.4 core/runtime/restart/restart.go */
export const restartLabels = {
  /** `running` or `stopped`; a container without it is nobody's business here. */
  status: "containerd.io/restart.status",
  /** `always`, `on-failure[:N]`, `unless-stopped` or `no`. */
  policy: "containerd.io/restart.policy",
  /** How often it was started again. */
  count: "containerd.io/restart.count",
  /** Where its output goes after that. */
  logUri: "containerd.io/restart.loguri",
  /** Whether a user stopped it. */
  explicitlyStopped: "containerd.io/restart.explicitly-stopped",
} as const;

/** The policies, as the plugin's manifest names them. */
const restartPolicies = ["no", "always", "on-failure", "unless-stopped"] as const;

/** A policy with its bound. */
interface RestartPolicy {
  readonly name: (typeof restartPolicies)[number];
  /** How often a container is started again; 0 for without end. */
  readonly retriesMax: number;
}

/**
 * Reads a policy.
 *
 * @returns What is wrong with it, in containerd's words, if anything is.
 * @source containerd v2.3.4 core/runtime/restart/restart.go `NewPolicy`
 */
function parsePolicy(text: string): RestartPolicy | string {
  const [word = "", retries] = text.split(":");
  const name = restartPolicies.find((policy) => policy === (word || "always"));
  if (name === undefined) {
    return `restart policy "${text}" not supported`;
  }
  if (retries === undefined) {
    return { name, retriesMax: 0 };
  }
  if (name !== "on-failure") {
    return `restart policy "${name}" not support max retry count`;
  }
  return /^[+-]?\d{1,9}$/.test(retries) ? { name, retriesMax: Number(retries) } : `invalid max retry count: ${retries}`;
}

/** How often a container was started again, by its labels; undefined for what is no number. */
export function restartCount(labels: Readonly<Record<string, string>>): number | undefined {
  const text = labels[restartLabels.count] ?? "";
  return text === "" ? 0 : /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

/**
 * Tells whether a container that does not run is to be started again, or what is wrong with its labels.
 *
 * Unlike with containerd, whoever a user has stopped stays so under `always` too.
 *
 * @param exitStatus - Of its task; 0 when there is none.
 * @source containerd v2.3.4 core/runtime/restart/restart.go `Reconcile`
 */
export function isToRestart(labels: Readonly<Record<string, string>>, exitStatus: number): boolean | string {
  const policy = parsePolicy(labels[restartLabels.policy] ?? "");
  if (typeof policy === "string") {
    return policy;
  }
  if (policy.name === "no" || isTrue(labels[restartLabels.explicitlyStopped] ?? "")) {
    return false;
  }
  if (policy.name !== "on-failure") {
    return true;
  }
  const count = restartCount(labels);
  if (count === undefined) {
    return `invalid restart count: ${labels[restartLabels.count]}`;
  }
  return exitStatus !== 0 && (policy.retriesMax === 0 || count < policy.retriesMax);
}

/** @source Go strconv/atob.go `ParseBool` */
function isTrue(text: string): boolean {
  return ["1", "t", "T", "true", "TRUE", "True"].includes(text);
}
