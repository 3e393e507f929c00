import { createRequire } from "node:module";
import { getSystemErrorName } from "node:util";
import { ErrorKind, FlotillaError } from "#base/errors.ts";

type Koffi = typeof import("koffi");

let loaded: { readonly koffi: Koffi; readonly library: import("koffi").LibraryHandle } | undefined;

/** The FFI library and the C library, loaded when first needed: a process without native calls does not pay for them. */
function native(): NonNullable<typeof loaded> {
  if (loaded === undefined) {
    const koffi = createRequire(import.meta.url)("koffi") as Koffi;
    loaded = { koffi, library: koffi.load(null) };
  }
  return loaded;
}

/** What a native call takes and gives. */
type NativeArgument = number | bigint | string | Uint8Array | readonly (string | null)[] | null;
type Native = (...args: NativeArgument[]) => number;

/**
 * Defines a function of the C library that gives a number. It is looked up at its first call.
 *
 * @param prototype - The C prototype, such as `int chdir(const char *path)`. Text goes in as UTF-8, memory as `const void *`,
 *   a list of texts as `const char **` with a null at its end.
 */
export function nativeFunction(prototype: string): Native {
  let bound: Native | undefined;
  return (...args) => {
    bound ??= native().library.func(prototype) as Native;
    return bound(...args);
  };
}

/**
 * Defines a function of the C library that is run on a thread of the pool, for calls that may block.
 *
 * Its error number stays on that thread, so that a failure can only be told as -1.
 */
export function backgroundFunction(prototype: string): (...args: NativeArgument[]) => Promise<number> {
  let bound: import("koffi").KoffiFunc<Native> | undefined;
  return (...args) => {
    bound ??= native().library.func(prototype) as import("koffi").KoffiFunc<Native>;
    const call = bound;
    return new Promise((resolve, reject) => {
      call.async(...args, (error: Error | null, result: number) => (error === null ? resolve(result) : reject(error)));
    });
  };
}

/** The error number that the last native call of this thread left; to be read before any other call. */
export function lastErrno(): number {
  return native().koffi.errno();
}

/** The result of a call, or the negated error number that it left when the result is -1. */
export function outcome(result: number): number {
  return result === -1 ? -lastErrno() : result;
}

/**
 * A system call that failed. Its class is `unknown`, as for every error of the system that containerd passes on, and its text
 * ends in the words that Go has for the error number.
 */
export class SystemError extends FlotillaError {
  /** Name of the error number, such as `ENOENT`. */
  readonly code: string;
  readonly errno: number;

  constructor(errno: number, context: string) {
    super(ErrorKind.Unknown, context === "" ? errnoText(errno) : `${context}: ${errnoText(errno)}`);
    this.name = "SystemError";
    this.code = errnoName(errno);
    this.errno = errno;
  }
}

/**
 * Gives back the result of a call, or throws the error that it left when the result is -1.
 *
 * @param context - What was tried with what; made only on failure.
 * @throws {@link SystemError}
 */
export function checked(result: number, context: () => string): number {
  if (result === -1) {
    throw new SystemError(lastErrno(), context());
  }
  return result;
}

let strerror: ((errno: number) => string) | undefined;

/**
 * The text of an error number as Go prints it: that of the C library with a small first letter, unless it begins with an
 * abbreviation.
 *
 * @source golang.org/x/sys unix/mkerrors.sh (lowercase first letter)
 */
export function errnoText(errno: number): string {
  strerror ??= native().library.func("const char *strerror(int errnum)") as (errno: number) => string;
  return strerror(errno).replace(/^[A-Z](?=[a-z])/, (first) => first.toLowerCase());
}

/** @source asm-generic/errno.h */
export const Errno = {
  NotPermitted: 1,
  NoEntry: 2,
  NoDeviceOrAddress: 6,
  TryAgain: 11,
  BlockDeviceRequired: 15,
  Exists: 17,
  CrossDevice: 18,
  NotDirectory: 20,
  IsDirectory: 21,
  Invalid: 22,
  NameTooLong: 36,
  NotEmpty: 39,
  Loop: 40,
  NoData: 61,
  NotSupported: 95,
} as const;

/** libuv knows the one by its other name only, and the other not at all. */
const errnoNames: ReadonlyMap<number, string> = new Map([
  [Errno.NotSupported, "ENOTSUP"],
  [Errno.BlockDeviceRequired, "ENOTBLK"],
]);

function errnoName(errno: number): string {
  return errnoNames.get(errno) ?? getSystemErrorName(-errno);
}
