import {
  AddressFamily,
  assembleFilter,
  filterMachines,
  installFilter,
  type SystemCall,
  type SystemCallRules,
} from "#linux/system-call-filter.ts";
import type { ProcessName } from "./process-name.ts";
import { rights } from "./rights.ts";

/** What no process of the fleet has to do with: the kernel itself, the clock, the memory and the descriptors of other processes. */
const nobodys: readonly SystemCall[] = [
  "acct",
  "adjtimex",
  "bpf",
  "clock_adjtime",
  "clock_settime",
  "delete_module",
  "fanotify_init",
  "finit_module",
  "init_module",
  "io_uring_setup",
  "ioperm",
  "iopl",
  "kcmp",
  "kexec_file_load",
  "kexec_load",
  "perf_event_open",
  "pidfd_getfd",
  "process_vm_readv",
  "process_vm_writev",
  "ptrace",
  "reboot",
  "setdomainname",
  "sethostname",
  "settimeofday",
  "swapoff",
  "swapon",
  "syslog",
  "userfaultfd",
  "vhangup",
];

/** What only those have to do with who mount. */
const mounting: readonly SystemCall[] = [
  "add_key",
  "chroot",
  "fsconfig",
  "fsmount",
  "fsopen",
  "fspick",
  "keyctl",
  "mount",
  "mount_setattr",
  "move_mount",
  "open_by_handle_at",
  "open_tree",
  "pivot_root",
  "quotactl",
  "quotactl_fd",
  "request_key",
  "setns",
  "umount2",
  "unshare",
];

/**
 * The system calls that a process of the fleet can do without by its rights. Undefined for one whose children need all of them, since a filter goes on to
 * these: what it kept from tasks it would keep from every container.
 */
export function systemCallRules(name: ProcessName): SystemCallRules | undefined {
  const { capabilities, network } = rights[name];
  if (capabilities === "all") {
    return undefined;
  }
  const mounts = capabilities.includes("CAP_SYS_ADMIN");
  const { Unix, Ipv4, Ipv6, Netlink } = AddressFamily;
  return {
    denied: mounts ? nobodys : [...nobodys, ...mounting],
    allowsNamespaces: mounts,
    // Names of hosts and addresses of interfaces are asked for by netlink; programs of device mapper speak it with udev.
    families: network ? [Unix, Ipv4, Ipv6, Netlink] : mounts ? [Unix, Netlink] : [Unix],
  };
}

/**
 * Takes from this process, and from whatever it starts, the system calls that it can do without.
 *
 * @returns Why that is not possible here; undefined when it has been done, or there is nothing to take.
 */
export function giveUpSystemCalls(name: ProcessName): string | undefined {
  const rules = systemCallRules(name);
  const machine = filterMachines[process.arch];
  if (rules === undefined) {
    return undefined;
  }
  if (machine === undefined) {
    return `there is no filter for ${process.arch}`;
  }
  try {
    installFilter(assembleFilter(rules, machine), machine);
    return undefined;
  } catch (error) {
    return String(error);
  }
}
