import { backgroundFunction, checked, nativeFunction, SystemError } from "./libc.ts";

/** What is started, and with what. */
export interface SpawnRequest {
  /** Path of the program. */
  readonly path: string;
  /** What it is given, its own name first. */
  readonly args: readonly string[];
  /** The whole environment, as `NAME=value`. */
  readonly environment: readonly string[];
  /** Where it starts; where this process is unless given. */
  readonly directory: string | undefined;
  /** The descriptors that become its 0, 1, 2 and so on. It gets no others, as long as all are marked close-on-exec. */
  readonly streams: readonly number[];
}

/** How a program ended. */
export type ProgramEnd = { readonly status: number } | { readonly signal: number };

/** @source spawn.h of glibc and musl */
const SpawnFlag = { SetSignalDefaults: 0x04, SetSignalMask: 0x08, SetSession: 0x80 };
/** Room for what the C library keeps there: 336 and 80 bytes with glibc, as many and fewer with musl, and 128 for a set of signals. */
const structBytes = 512;
const noHang = 1;

const spawnCall = nativeFunction(
  "int posix_spawn(void *pid, const char *path, const void *actions, const void *attributes, const char **argv, const char **envp)",
);
const initActions = nativeFunction("int posix_spawn_file_actions_init(void *actions)");
const addDuplicate = nativeFunction("int posix_spawn_file_actions_adddup2(void *actions, int from, int to)");
const addDirectory = nativeFunction("int posix_spawn_file_actions_addchdir_np(void *actions, const char *path)");
const destroyActions = nativeFunction("int posix_spawn_file_actions_destroy(void *actions)");
const initAttributes = nativeFunction("int posix_spawnattr_init(void *attributes)");
const setFlags = nativeFunction("int posix_spawnattr_setflags(void *attributes, short flags)");
const setSignalDefaults = nativeFunction("int posix_spawnattr_setsigdefault(void *attributes, const void *signals)");
const setSignalMask = nativeFunction("int posix_spawnattr_setsigmask(void *attributes, const void *signals)");
const waitCall = nativeFunction("int waitpid(int pid, void *status, int options)");
const waitInBackground = backgroundFunction("int waitpid(int pid, void *status, int options)");

let sessionAttributes: Buffer | undefined;

/**
 * Starts a program in a session of its own, with all signals as they are by default.
 *
 * By posix_spawn(3), which borrows the memory of this process until the program runs. Node.js forks, which copies the page tables of
 * some 80 MiB while nothing else happens, and has each page that is written afterwards fault: 1.2 ms for each program, and here 0.15.
 *
 * @returns Its process id. The caller has to {@link reap} it.
 * @throws {@link SystemError} when it can't be started, `ENOENT` when it is not there.
 */
export function spawnInSession({ path, args, environment, directory, streams }: SpawnRequest): number {
  const actions = Buffer.alloc(structBytes);
  succeed(initActions(actions));
  try {
    streams.forEach((descriptor, target) => succeed(addDuplicate(actions, descriptor, target)));
    if (directory !== undefined) {
      succeed(addDirectory(actions, directory));
    }
    sessionAttributes ??= makeSessionAttributes();
    const pid = Buffer.alloc(4);
    succeed(spawnCall(pid, path, actions, sessionAttributes, [...args, null], [...environment, null]));
    return pid.readInt32LE();
  } finally {
    destroyActions(actions);
  }
}

/** Waits for the end of a program that {@link spawnInSession} has started, on a thread of the pool. */
export async function reap(pid: number): Promise<ProgramEnd> {
  const word = Buffer.alloc(4);
  if (checked(waitCall(pid, word, noHang), () => `wait for ${pid}`) === 0) {
    const reaped = await waitInBackground(pid, word, 0);
    if (reaped !== pid) {
      throw new Error(`process ${pid} can't be waited for`);
    }
  }
  const end = word.readInt32LE();
  const signal = end & 0x7f;
  return signal === 0 ? { status: (end >> 8) & 0xff } : { signal };
}

function makeSessionAttributes(): Buffer {
  const attributes = Buffer.alloc(structBytes);
  succeed(initAttributes(attributes));
  succeed(setFlags(attributes, SpawnFlag.SetSession | SpawnFlag.SetSignalDefaults | SpawnFlag.SetSignalMask));
  // Node.js ignores SIGPIPE, and what is ignored stays so in the program. Not the set of sigfillset(3), which leaves out two signals that
  // glibc then has ignored.
  succeed(setSignalDefaults(attributes, Buffer.alloc(structBytes, 0xff)));
  succeed(setSignalMask(attributes, Buffer.alloc(structBytes)));
  return attributes;
}

/** The functions of spawn.h give the error number back, and leave none. */
function succeed(errno: number): void {
  if (errno !== 0) {
    throw new SystemError(errno, "");
  }
}
