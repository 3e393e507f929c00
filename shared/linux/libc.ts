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

/**
 * Defines a function of the C library. It is looked up at its first call.
 *
 * @param prototype - The C prototype, such as `int chdir(const char *path)`.
 */
export function nativeFunction<A extends readonly unknown[], R>(prototype: string): (...args: A) => R {
  let bound: ((...args: A) => R) | undefined;
  return (...args) => {
    bound ??= native().library.func(prototype) as (...args: A) => R;
    return bound(...args);
  };
}

/** A function of the C library by name, with what koffi adds to it: `async` runs it on a thread of the pool. */
export interface NativeFunction<A extends readonly unknown[], R> {
  (...args: A): R;
  readonly async: (...args: [...A, (error: unknown, result: R) => void]) => void;
}

/** Binds a function of the C library now, for callers that call it often and want no indirection. */
export function bindNative<A extends readonly unknown[], R>(prototype: string): NativeFunction<A, R> {
  return native().library.func(prototype) as unknown as NativeFunction<A, R>;
}

/** The error number that the last native call of this thread left; to be read before any other call. */
export function lastErrno(): number {
  return native().koffi.errno();
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

const strerror = nativeFunction<[number], string>("const char *strerror(int errnum)");

/**
 * The text of an error number as Go prints it: that of the C library with a small first letter, unless it begins with an
 * abbreviation.
 *
 * @source golang.org/x/sys unix/mkerrors.sh (lowercase first letter)
 */
export function errnoText(errno: number): string {
  return strerror(errno).replace(/^[A-Z](?=[a-z])/, (first) => first.toLowerCase());
}

function errnoName(errno: number): string {
  return errno === notSupported ? "ENOTSUP" : getSystemErrorName(-errno);
}

/** @source asm-generic/errno.h `EOPNOTSUPP`, which is `ENOTSUP` on Linux */
const notSupported = 95;
