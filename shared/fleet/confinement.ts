import type { Capability } from "#linux/capabilities.ts";
import type { ProcessName } from "./process-name.ts";
import { rights } from "./rights.ts";
import type { FleetUsers } from "./users.ts";

/** What is taken from a program before it runs. */
export interface Confinement {
  /** Who it runs as; undefined for the user of this process. */
  readonly user: { readonly uid: number; readonly gid: number } | undefined;
  /** What it, and whatever it starts, can have at most, or `all` for what this process has. */
  readonly capabilities: "all" | readonly Capability[];
}

/**
 * What is taken from a process of the fleet: everything but its rights, when processes have users of their own. When all run as one there is
 * nothing to take, since each could have it back from another.
 */
export function confinementOf(name: ProcessName, users: FleetUsers): Confinement | undefined {
  const { user, capabilities } = rights[name];
  if (!users.areSeparate) {
    return undefined;
  }
  // Processes of root keep root's group: files that they make for containers must not belong to ours.
  return {
    user: user === "root" || users.gid === undefined ? undefined : { uid: users.uidOf(name), gid: users.gid },
    capabilities,
  };
}

/**
 * The flags of setpriv(1) that confine what it runs. Whoever cannot get all capabilities back gets no new privileges either; a process whose children
 * need all of them must be able to start what containers start, among it programs with setuid bits.
 */
export function setprivFlags({ user, capabilities }: Confinement): string[] {
  const own = user === undefined ? [] : [`--reuid=${user.uid}`, `--regid=${user.gid}`, "--clear-groups"];
  if (capabilities === "all") {
    return own;
  }
  const kept = capabilities.map((name) => `,+${name.slice("CAP_".length).toLowerCase()}`).join("");
  return [...own, "--inh-caps=-all", "--ambient-caps=-all", `--bounding-set=-all${kept}`, "--no-new-privs"];
}
