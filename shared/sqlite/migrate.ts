import { ErrorKind, failure } from "#base/errors.ts";
import type { Database } from "./open.ts";

/**
 * Brings a database to the newest schema, one transaction for each step.
 *
 * The number of steps taken is kept in `user_version`. A crash in between leaves the database at one of the steps,
 * and the next call goes on from there.
 *
 * @param migrations - SQL scripts, oldest first. Scripts that were released never change; new ones come at the end.
 * @throws {@link FlotillaError} `failed_precondition` when a newer release has written the database. Nothing is changed then.
 */
export function migrate(database: Database, migrations: readonly string[]): void {
  const version = Number(database.pragma("user_version", { simple: true }));
  if (version > migrations.length) {
    throw failure(
      ErrorKind.FailedPrecondition,
      `${database.name} has schema ${version}, which a newer release wrote; this one knows schemas up to ${migrations.length}`,
    );
  }
  for (const [index, script] of migrations.entries()) {
    if (index >= version) {
      database
        .transaction(() => {
          database.exec(script);
          database.pragma(`user_version = ${index + 1}`);
        })
        .immediate();
    }
  }
}
