import { getSystemErrorMap } from "node:util";
import { errorMessage, systemErrorCode } from "#base/errors.ts";

/** Where Go says something else than libuv. @source Go syscall/zerrors_linux_amd64.go `errors` */
const goTexts: ReadonlyMap<string, string> = new Map([
  ["EISDIR", "is a directory"],
  ["ENOEXEC", "exec format error"],
  ["EIO", "input/output error"],
  ["ELOOP", "too many levels of symbolic links"],
]);

/** The text of a failed system call as Go has it, such as `no such file or directory`, since users know and compare it. */
export function goSystemErrorText(error: unknown): string {
  const code = systemErrorCode(error);
  if (code === undefined) {
    return errorMessage(error);
  }
  const known = goTexts.get(code);
  return known ?? [...getSystemErrorMap().values()].find(([name]) => name === code)?.[1] ?? errorMessage(error);
}
