/** What a profile is written for. */
export interface ProfileSurroundings {
  /** The profile that this daemon itself has; `unconfined` for none. */
  readonly daemonProfile: string;
  /** Whether the machine has a file of that name for profiles to include, such as `tunables/global`. */
  readonly has: (file: string) => boolean;
}

/** What a container may write in `/proc/sys`: the limits of its own shared memory. */
const ownSysctls = "kernel/shm";
/** What it may change in `/sys`, as far as its mounts let it. */
const ownSysFiles = "fs/cgroup";
/** Who may send signals to a container besides the daemon: whoever is not confined, and the runtimes. */
const signallers = ["unconfined", "runc", "crun"];
/** Write, make links, lock and run. */
const change = "wklx";

/**
 * The profile of AppArmor that containers get where nothing is said. It allows what containerd's allows: files, networks, capabilities and the end of mounts,
 * signals and traces among the container's own processes; and it denies mounts, and what in `/proc` and `/sys` belongs to the whole machine.
 *
 * @param name - Of the profile.
 * @returns What `apparmor_parser` reads.
 * @source containerd v2.3.4 contrib/apparmor/template.go; apparmor.d(5)
 */
export function defaultProfile(name: string, { daemonProfile, has }: ProfileSurroundings): string {
  const heads = [
    ...(has("abi/3.0") ? ["abi <abi/3.0>,"] : []),
    has("tunables/global") ? "#include <tunables/global>" : "@{PROC}=/proc/",
  ];
  const rules = [
    ...(has("abstractions/base") ? ["#include <abstractions/base>"] : []),
    "network,",
    "capability,",
    "file,",
    "umount,",
    "deny mount,",
    ...[...new Set([...signallers, daemonProfile])].map((peer) => `signal (receive) peer=${peer},`),
    `signal (send, receive) peer=${name},`,
    `ptrace (trace, tracedby, read, readby) peer=${name},`,
    // Directories of processes begin with a digit.
    "deny @{PROC}/[^1-9s]** w,",
    "deny @{PROC}/s[^y]** w,",
    "deny @{PROC}/sy[^s]** w,",
    "deny @{PROC}/sys[^/]** w,",
    ...denyBeside("@{PROC}/sys/", ownSysctls, "w"),
    "deny @{PROC}/sysrq-trigger rwklx,",
    "deny @{PROC}/kcore rwklx,",
    ...denyBeside("/sys/", ownSysFiles, change),
    "deny /sys/firmware/** rwklx,",
    "deny /sys/devices/virtual/powercap/** rwklx,",
    "deny /sys/kernel/security/** rwklx,",
  ];
  return [
    ...heads,
    `profile ${name} flags=(attach_disconnected,mediate_deleted) {`,
    ...rules.map((rule) => `  ${rule}`),
    "}",
    "",
  ].join("\n");
}

/** Denies all below a directory but what begins as is said: patterns know no exceptions, so there is a rule for each letter at which a path may differ. */
function denyBeside(directory: string, kept: string, access: string): string[] {
  return Array.from(kept, (letter, index) => `deny ${directory}${kept.slice(0, index)}[^${letter}]** ${access},`);
}
