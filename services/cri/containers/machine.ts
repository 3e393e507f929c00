import { access, readFile } from "node:fs/promises";
import { hostname, release } from "node:os";
import { readMountInfo } from "#linux/mount-info.ts";
import type { CriSettings } from "../config.ts";
import { criNamespace } from "../peers.ts";
import type { MachineFacts } from "./spec/container-spec.ts";

/** What is so on this machine, found out once. */
export interface Machine extends MachineFacts {
  readonly hasSeccomp: boolean;
  readonly hasApparmor: boolean;
  /** Whether the kernel can make all below a mount read-only. */
  readonly hasRecursiveReadOnly: boolean;
}

/** Names of capabilities by their numbers. @source capabilities(7), linux/capability.h */
const capabilityNames =
  `CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST
  NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME
  SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF
  CHECKPOINT_RESTORE`
    .trim()
    .split(/\s+/);

const cgroupRoot = "/sys/fs/cgroup";

/** Finds out what containers of this machine can be given. */
export async function exploreMachine(settings: CriSettings): Promise<Machine> {
  const hasUnifiedCgroups = await isThere(`${cgroupRoot}/cgroup.controllers`);
  const mounts = await readMountInfo();
  const status = await readFile("/proc/self/status", "utf8");
  return {
    namespace: criNamespace,
    hostname: hostname(),
    architecture: process.arch,
    hasUnifiedCgroups,
    capabilities: capabilitiesOf(status),
    hasOwnPtrace: isKernelAtLeast(4, 8),
    cgroupOptions: mounts.findLast(({ mountPoint }) => mountPoint === cgroupRoot)?.superOptions.split(","),
    hasSwap: await hasSwapController(hasUnifiedCgroups),
    hasHugetlb: hasUnifiedCgroups
      ? (await readFile(`${cgroupRoot}/cgroup.controllers`, "utf8")).includes("hugetlb")
      : await isThere(`${cgroupRoot}/hugetlb`),
    disableHugetlb: settings.disableHugetlbController,
    tolerateMissingHugetlb: settings.tolerateMissingHugetlbController,
    oomScoreAdjMin: settings.restrictOomScoreAdj
      ? Number(await readFile("/proc/self/oom_score_adj", "utf8"))
      : undefined,
    hasSeccomp: await isThere("/proc/sys/kernel/seccomp/actions_avail"),
    hasApparmor: !settings.disableApparmor && (await hasApparmor()),
    hasRecursiveReadOnly: isKernelAtLeast(5, 12),
  };
}

/** The capabilities that a process may use, from its line in /proc/PID/status. */
export function capabilitiesOf(status: string): string[] {
  const mask = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? "0"}`);
  return capabilityNames.filter((_name, bit) => (mask & (1n << BigInt(bit))) !== 0n).map((name) => `CAP_${name}`);
}

/** @source containerd v2.3.4 internal/cri/opts/spec_linux.go `SwapControllerAvailable` */
async function hasSwapController(hasUnifiedCgroups: boolean): Promise<boolean> {
  if (!hasUnifiedCgroups) {
    return await isThere(`${cgroupRoot}/memory/memory.memsw.limit_in_bytes`);
  }
  const own = /^0::(.*)$/m.exec(await readFile("/proc/self/cgroup", "utf8"))?.[1] ?? "";
  return await isThere(`${cgroupRoot}${own}/memory.swap.max`);
}

/** @source containerd v2.3.4 pkg/apparmor/apparmor_linux.go `hostSupports` */
async function hasApparmor(): Promise<boolean> {
  // Who runs in a container has no profiles to give away.
  if (
    (process.env["container"] ?? "") !== "" ||
    !(await isThere("/sys/kernel/security/apparmor")) ||
    !(await isThere("/sbin/apparmor_parser"))
  ) {
    return false;
  }
  return (await readFile("/sys/module/apparmor/parameters/enabled", "utf8").catch(() => "")).startsWith("Y");
}

function isKernelAtLeast(major: number, minor: number): boolean {
  const [own = 0, ownMinor = 0] = release().split(".").map(Number);
  return own > major || (own === major && ownMinor >= minor);
}

function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
