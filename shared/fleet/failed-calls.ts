import { ErrorKind, systemErrorCode } from "#base/errors.ts";
import { kindOf } from "#wire/errors.ts";
import type { CallObserver, FailedCall } from "#wire/observe.ts";
import type { Logger } from "./log.ts";

/** How loudly a failed call is told of. */
type FailureLevel = "debug" | "info" | "warn" | "error";

/** What the machine refused, not what the client asked for wrongly. @source errno(3) */
const machineFaults = new Set(["EIO", "ENOSPC", "EDQUOT", "EROFS", "EMFILE", "ENFILE", "ENOMEM", "ESTALE", "EUCLEAN"]);
/** What SQLite says of its file or the disk below it, with all their extended codes. @source sqlite.org/rescode.html */
const databaseFault = /^SQLITE_(?:CORRUPT|FULL|IOERR|NOTADB|CANTOPEN|READONLY|NOMEM|PROTOCOL|SCHEMA|MISUSE|INTERNAL)/;
const causesMax = 16;

/** Logs failed calls, each once. */
export function logFailures(log: Logger): CallObserver {
  return {
    failed: ({ rpc, error }) => log[levelOf(error)]({ rpc, err: error.cause }, "call failed"),
  };
}

/**
 * How loudly a failed call is told of: a bug or a fault of the machine as an error, wherever it stands among the causes; what
 * the client got for asking so is for those who look for it.
 */
export function levelOf(error: FailedCall["error"]): FailureLevel {
  let cause: unknown = error.cause;
  for (let depth = 0; cause instanceof Error && depth < causesMax; depth++) {
    const code = systemErrorCode(cause) ?? "";
    if (isBug(cause) || machineFaults.has(code) || databaseFault.test(code)) {
      return "error";
    }
    ({ cause } = cause);
  }
  switch (kindOf(error.code, error.message)) {
    case ErrorKind.Internal:
    case ErrorKind.DataLoss:
      return "warn";
    case ErrorKind.Unknown:
      return "info";
    default:
      return "debug";
  }
}

/** Node.js gives its own errors a code, those of the language have none. */
function isBug(error: Error): boolean {
  const isOfLanguage = error instanceof TypeError || error instanceof RangeError || error instanceof ReferenceError;
  return isOfLanguage && systemErrorCode(error) === undefined;
}
