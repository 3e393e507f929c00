import { closeSync, mkdirSync, openSync, readSync } from "node:fs";
import { dirname } from "node:path";
import SqliteDatabase from "better-sqlite3";
import { ErrorKind, errorMessage, FlotillaError, failure, systemErrorCode } from "#base/errors.ts";

export type Database = SqliteDatabase.Database;
export type Statement<P extends unknown[], R = unknown> = SqliteDatabase.Statement<P, R>;

export interface OpenOptions {
  /** Whether a commit waits until the disk has it. Without, a power cut may lose or damage the file. Default true. */
  readonly durable?: boolean;
  /** How long a statement waits for the lock of another connection, in ms. Default 5000. */
  readonly busyMs?: number;
}

const busyMsDefault = 5_000;

/** Of directories that hold databases: others may reach what they are given the name of. @source containerd v2.3.4 plugins/metadata/plugin.go */
export const directoryMode = 0o711;

/**
 * Opens a database for reading and writing, and makes it and its directory where they are missing.
 *
 * WAL, so that readers on other connections do not wait for the writer; `synchronous=FULL`, since SQLite is built with NORMAL
 * for WAL here, which loses the last commits in a power cut; foreign keys are on.
 *
 * @throws {@link FlotillaError} `failed_precondition` when the file is something else, such as a database of containerd's own,
 *   or `unknown` when it cannot be opened.
 * @source SQLite documentation wal.html, pragma.html
 */
export function openDatabase(path: string, options: OpenOptions = {}): Database {
  mkdirSync(dirname(path), { recursive: true, mode: directoryMode });
  return prepareConnection(path, { fileMustExist: false }, options, (database) => {
    database.pragma("journal_mode = WAL");
    database.pragma(`synchronous = ${(options.durable ?? true) ? "FULL" : "OFF"}`);
    database.pragma("foreign_keys = ON");
  });
}

/**
 * Opens a second connection to a database that is open already, for reads alone. A transaction on it keeps seeing
 * the state at its first statement while the other connection writes.
 */
export function openReader(path: string, options: OpenOptions = {}): Database {
  return prepareConnection(path, { fileMustExist: true }, options, (database) => {
    database.pragma("query_only = ON");
  });
}

function prepareConnection(
  path: string,
  { fileMustExist }: { readonly fileMustExist: boolean },
  options: OpenOptions,
  prepare: (database: Database) => void,
): Database {
  let database: Database | undefined;
  try {
    database = new SqliteDatabase(path, { timeout: options.busyMs ?? busyMsDefault, fileMustExist });
    prepare(database);
    return database;
  } catch (error) {
    database?.close();
    throw explainOpenFailure(path, error);
  }
}

function explainOpenFailure(path: string, error: unknown): FlotillaError {
  if (systemErrorCode(error) === "SQLITE_NOTADB") {
    const what = isBoltFile(path)
      ? "is a bolt database that containerd wrote, which cannot be read; use another root directory"
      : "is no SQLite database";
    return failure(ErrorKind.FailedPrecondition, `${path} ${what}`, { cause: error });
  }
  return new FlotillaError(ErrorKind.Unknown, `cannot open ${path}: ${errorMessage(error)}`, { cause: error });
}

/** The word that a bolt file carries after the 16 bytes of its first page's header. @source etcd-io/bbolt db.go `magic` */
const boltMagic = 0xed0cdaed;
const boltMagicOffset = 16;

function isBoltFile(path: string): boolean {
  const word = Buffer.alloc(4);
  const file = openSync(path, "r");
  try {
    return readSync(file, word, 0, word.length, boltMagicOffset) === word.length && word.readUInt32LE() === boltMagic;
  } finally {
    closeSync(file);
  }
}
