import SqliteDatabase from "better-sqlite3";
import { ErrorKind, FlotillaError, failure } from "#base/errors.ts";

/**
 * Makes the error that a client sees when the database could not be changed: `resource_exhausted` when the disk is full, `unknown`
 * otherwise. The fault with its code (`SQLITE_IOERR_FSYNC`, `SQLITE_CORRUPT`) stays the cause, by which the log tells it from
 * what clients do wrong. Other errors are left as they are.
 *
 * @source SQLite documentation rescode.html
 */
export function databaseFailure(error: unknown): unknown {
  if (!(error instanceof SqliteDatabase.SqliteError)) {
    return error;
  }
  return error.code === "SQLITE_FULL"
    ? failure(ErrorKind.ResourceExhausted, "change records: no space left on device", { cause: error })
    : new FlotillaError(ErrorKind.Unknown, `change records: ${error.message}`, { cause: error });
}
