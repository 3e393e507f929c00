import { checked, nativeFunction } from "./libc.ts";

/** Numbers of system calls: on x86-64, and on AArch64 where there is such a call. @source linux asm/unistd_64.h, asm-generic/unistd.h */
const numbers = {
  acct: [163, 89],
  add_key: [248, 217],
  adjtimex: [159, 171],
  bpf: [321, 280],
  chroot: [161, 51],
  clock_adjtime: [305, 266],
  clock_settime: [227, 112],
  clone: [56, 220],
  clone3: [435, 435],
  delete_module: [176, 106],
  fanotify_init: [300, 262],
  finit_module: [313, 273],
  fsconfig: [431, 431],
  fsmount: [432, 432],
  fsopen: [430, 430],
  fspick: [433, 433],
  init_module: [175, 105],
  io_uring_setup: [425, 425],
  ioperm: [173, undefined],
  iopl: [172, undefined],
  kcmp: [312, 272],
  kexec_file_load: [320, 294],
  kexec_load: [246, 104],
  keyctl: [250, 219],
  mount: [165, 40],
  mount_setattr: [442, 442],
  move_mount: [429, 429],
  open_by_handle_at: [304, 265],
  open_tree: [428, 428],
  perf_event_open: [298, 241],
  pidfd_getfd: [438, 438],
  pivot_root: [155, 41],
  process_vm_readv: [310, 270],
  process_vm_writev: [311, 271],
  ptrace: [101, 117],
  quotactl: [179, 60],
  quotactl_fd: [443, 443],
  reboot: [169, 142],
  request_key: [249, 218],
  seccomp: [317, 277],
  setdomainname: [171, 162],
  sethostname: [170, 161],
  setns: [308, 268],
  settimeofday: [164, 170],
  socket: [41, 198],
  swapoff: [168, 225],
  swapon: [167, 224],
  syslog: [103, 116],
  umount2: [166, 39],
  unshare: [272, 97],
  userfaultfd: [323, 282],
  vhangup: [153, 58],
} as const satisfies Record<string, readonly [x64: number, arm64: number | undefined]>;

/** A system call that can be denied. */
export type SystemCall = keyof typeof numbers;

/** @source linux/socket.h */
export const AddressFamily = { Unix: 1, Ipv4: 2, Ipv6: 10, Netlink: 16 } as const;

/** What is let through, and what is not. */
export interface SystemCallRules {
  /** Calls that fail with EPERM. */
  readonly denied: readonly SystemCall[];
  /** Whether processes can be made in new namespaces. */
  readonly allowsNamespaces: boolean;
  /** Families of sockets that can be made; others fail with EAFNOSUPPORT. */
  readonly families: readonly number[];
}

/** A machine that filters can be made for. */
export interface FilterMachine {
  /** Which of the numbers it has. */
  readonly column: 0 | 1;
  /** @source linux/audit.h `AUDIT_ARCH_X86_64`, `AUDIT_ARCH_AARCH64` */
  readonly audit: number;
}

/** By the names of Node.js. */
export const filterMachines: Readonly<Record<string, FilterMachine>> = {
  x64: { column: 0, audit: 0xc000003e },
  arm64: { column: 1, audit: 0xc00000b7 },
};

/** Codes of instructions: load a word, jump if equal, if at least, if a bit is set, give a result. @source linux/bpf_common.h */
const Op = { Load: 0x20, Equal: 0x15, AtLeast: 0x35, AnyBit: 0x45, Return: 0x06 } as const;
/** @source linux/seccomp.h `struct seccomp_data`: offsets of the number, the machine, and the lower half of the first argument */
const Data = { Number: 0, Machine: 4, FirstArgument: 16 } as const;
const allow = 0x7fff0000;
/** @source linux/seccomp.h `SECCOMP_RET_ERRNO`, asm-generic/errno.h */
const failWith = (errno: number): number => 0x00050000 | errno;
const notPermitted = failWith(1);
const notImplemented = failWith(38);
const familyNotSupported = failWith(97);
/** Numbers from here on are those of the ABI x32. @source asm/unistd.h `__X32_SYSCALL_BIT` */
const x32Bit = 0x40000000;
/** Every flag of clone(2) that makes a namespace. @source linux/sched.h */
const namespaceFlags = 0x7e020000;

/**
 * Makes a filter as the kernel runs it for each system call of a process.
 *
 * Calls by the rules of another machine, such as those of 32-bit programs, all fail. Where namespaces are denied `clone3` is not there, whose arguments a filter
 * can't see; the C library then takes `clone`.
 *
 * @source linux Documentation/userspace-api/seccomp_filter.rst
 */
export function assembleFilter(rules: SystemCallRules, { column, audit }: FilterMachine): Buffer {
  const words: (readonly [code: number, ifTrue: number, ifFalse: number, value: number])[] = [];
  const add = (code: number, value: number, ifTrue = 0, ifFalse = 0): void => {
    words.push([code, ifTrue, ifFalse, value]);
  };
  /** Gives a result for one call, and goes on with all others. */
  const answer = (call: SystemCall, result: number): void => {
    const number = numbers[call][column];
    if (number !== undefined) {
      add(Op.Equal, number, 0, 1);
      add(Op.Return, result);
    }
  };
  add(Op.Load, Data.Machine);
  add(Op.Equal, audit, 1, 0);
  add(Op.Return, notPermitted);
  add(Op.Load, Data.Number);
  if (column === 0) {
    add(Op.AtLeast, x32Bit, 0, 1);
    add(Op.Return, notPermitted);
  }
  rules.denied.forEach((call) => answer(call, notPermitted));
  if (!rules.allowsNamespaces) {
    answer("clone3", notImplemented);
    add(Op.Equal, numbers.clone[column], 0, 4);
    add(Op.Load, Data.FirstArgument);
    add(Op.AnyBit, namespaceFlags, 0, 1);
    add(Op.Return, notPermitted);
    add(Op.Return, allow);
  }
  add(Op.Equal, numbers.socket[column], 1, 0);
  add(Op.Return, allow);
  add(Op.Load, Data.FirstArgument);
  for (const family of rules.families) {
    add(Op.Equal, family, 0, 1);
    add(Op.Return, allow);
  }
  add(Op.Return, familyNotSupported);
  const program = Buffer.alloc(words.length * 8);
  words.forEach(([code, ifTrue, ifFalse, value], index) => {
    program.writeUInt16LE(code, index * 8);
    program.writeUInt8(ifTrue, index * 8 + 2);
    program.writeUInt8(ifFalse, index * 8 + 3);
    program.writeUInt32LE(value, index * 8 + 4);
  });
  return program;
}

const prctlCall = nativeFunction("int prctl(int option, ulong second, ulong third, ulong fourth, ulong fifth)");
const syscallCall = nativeFunction("long syscall(long number, long operation, long flags, const void *argument)");
/** Gives back where its target is. */
const addressCall = nativeFunction("uintptr_t memmove(void *target, const void *source, size_t size)");

/** @source linux/prctl.h `PR_SET_NO_NEW_PRIVS` */
const setNoNewPrivileges = 38;
/** @source linux/seccomp.h `SECCOMP_SET_MODE_FILTER`, `SECCOMP_FILTER_FLAG_TSYNC` */
const setModeFilter = 1;
const allThreads = 1;

/**
 * Has the kernel run a filter for each system call of this process, of all its threads and of whatever it starts, for good. None of them gains
 * privileges by starting a program any more.
 *
 * @throws {@link SystemError} on a kernel without filters.
 * @source seccomp(2)
 */
export function installFilter(program: Buffer, { column }: FilterMachine): void {
  checked(prctlCall(setNoNewPrivileges, 1, 0, 0, 0), () => "prctl PR_SET_NO_NEW_PRIVS");
  // struct sock_fprog: how many instructions, and where they are.
  const described = Buffer.alloc(16);
  described.writeUInt16LE(program.length / 8, 0);
  described.writeBigUInt64LE(BigInt(addressCall(program, program, program.length)), 8);
  const result = syscallCall(numbers.seccomp[column], setModeFilter, allThreads, described);
  checked(result > 0 ? -1 : result, () => "seccomp");
}
