import type { OciSeccomp, OciSeccompRule } from "./oci-spec.ts";
import { allowedSyscalls } from "./seccomp-syscalls.ts";

/** Architectures whose calls a process may make, by the machine's name in Node.js. @source containerd v2.3.4 contrib/seccomp/seccomp_default.go `arches` */
const architectures: Readonly<Record<string, readonly string[]>> = {
  x64: ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
  arm64: ["SCMP_ARCH_ARM", "SCMP_ARCH_AARCH64"],
  s390x: ["SCMP_ARCH_S390", "SCMP_ARCH_S390X"],
  riscv64: ["SCMP_ARCH_RISCV64"],
  loong64: ["SCMP_ARCH_LOONGARCH64"],
};

const callsOfMachine: Readonly<Record<string, readonly string[]>> = {
  x64: ["arch_prctl", "modify_ldt"],
  ia32: ["modify_ldt"],
  arm: ["arm_fadvise64_64", "arm_sync_file_range", "sync_file_range2", "breakpoint", "cacheflush", "set_tls"],
  arm64: ["arm_fadvise64_64", "arm_sync_file_range", "sync_file_range2", "breakpoint", "cacheflush", "set_tls"],
  ppc64: ["sync_file_range2", "swapcontext"],
  s390x: ["s390_pci_mmio_read", "s390_pci_mmio_write", "s390_runtime_instr"],
  riscv64: ["riscv_flush_icache", "riscv_hwprobe"],
};

const callsOfCapability: Readonly<Record<string, readonly string[]>> = {
  CAP_DAC_READ_SEARCH: ["open_by_handle_at"],
  CAP_SYS_ADMIN:
    `bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount open_tree perf_event_open
    quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare`.split(/\s+/),
  CAP_SYS_BOOT: ["reboot"],
  CAP_SYS_CHROOT: ["chroot"],
  CAP_SYS_MODULE: ["delete_module", "init_module", "finit_module"],
  CAP_SYS_PACCT: ["acct"],
  CAP_SYS_PTRACE: ["kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace"],
  CAP_SYS_RAWIO: ["iopl", "ioperm"],
  CAP_SYS_TIME: ["settimeofday", "stime", "clock_settime", "clock_settime64"],
  CAP_SYS_TTY_CONFIG: ["vhangup"],
  CAP_SYS_NICE: ["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"],
  CAP_SYSLOG: ["syslog"],
  CAP_BPF: ["bpf"],
  CAP_PERFMON: ["perf_event_open"],
};

/** Execution domains that processes may change to. @source personality(2) */
const personalities = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/** Families of sockets that reach out of the container. @source address_families(7) */
const familyAlg = 38;
const familyVsock = 40;

/** Every flag of clone(2) that makes a namespace. */
const cloneNamespaceFlags = 0x7e02_0000;

/** @source errno(3) `ENOSYS` */
const notImplemented = 38;

/**
 * The profile of a container that wants its runtime's own: everything is refused but what is listed, and the list grows with what the container may do.
 *
 * @param container.machine - Name of its architecture, as Node.js has it.
 * @param container.bounding - The largest set of capabilities of its processes.
 * @param container.hasOwnPtrace - Whether the kernel lets no process out of its filter by ptrace, which is so from 4.8 on.
 * @source containerd v2.3.4 contrib/seccomp/seccomp_default.go `DefaultProfile`
 */
export function defaultSeccompProfile({
  machine,
  bounding,
  hasOwnPtrace,
}: {
  readonly machine: string;
  readonly bounding: readonly string[];
  readonly hasOwnPtrace: boolean;
}): OciSeccomp {
  const own = callsOfMachine[machine];
  return {
    defaultAction: "SCMP_ACT_ERRNO",
    architectures: [...(architectures[machine] ?? [])],
    syscalls: [
      allow(allowedSyscalls),
      ...socketRules(),
      ...personalities.map((value) => allow(["personality"], { index: 0, value, op: "SCMP_CMP_EQ" })),
      ...(hasOwnPtrace ? [allow(["process_vm_readv", "process_vm_writev", "ptrace"])] : []),
      ...(own === undefined ? [] : [allow(own)]),
      ...bounding.flatMap((name) => {
        const calls = callsOfCapability[name];
        return calls === undefined ? [] : [allow(calls)];
      }),
      ...(bounding.includes("CAP_SYS_ADMIN") ? [] : withoutNamespaces(machine)),
    ],
  };
}

/** Each in a rule of its own: runtimes take two conditions on one argument for alternatives. */
function socketRules(): OciSeccompRule[] {
  return [
    allow(["socket"], { index: 0, value: familyAlg, op: "SCMP_CMP_LT" }),
    allow(["socket"], { index: 0, value: familyAlg + 1, op: "SCMP_CMP_EQ" }),
    allow(["socket"], { index: 0, value: familyVsock, op: "SCMP_CMP_GT" }),
  ];
}

/** New processes, but in no new namespaces. What has no flags in a register is said not to exist, so that libraries take the other way. */
function withoutNamespaces(machine: string): OciSeccompRule[] {
  const index = machine === "s390x" ? 1 : 0;
  return [
    allow(["clone"], { index, value: cloneNamespaceFlags, valueTwo: 0, op: "SCMP_CMP_MASKED_EQ" }),
    { names: ["clone3"], action: "SCMP_ACT_ERRNO", errnoRet: notImplemented },
  ];
}

function allow(names: readonly string[], ...args: NonNullable<OciSeccompRule["args"]>): OciSeccompRule {
  return { names: [...names], action: "SCMP_ACT_ALLOW", ...(args.length > 0 ? { args } : {}) };
}
