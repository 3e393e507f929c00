import { checked, nativeFunction } from "./libc.ts";

const mkfifoCall = nativeFunction("int mkfifo(const char *path, unsigned int mode)");

/**
 * Makes a named pipe.
 *
 * @param mode - Permission bits, from which the file mode mask of the process is taken.
 * @throws {@link SystemError} `EEXIST` when something has that name already.
 * @source mkfifo(3)
 */
export function makeFifo(path: string, mode: number): void {
  checked(mkfifoCall(path, mode), () => `mkfifo ${path}`);
}
