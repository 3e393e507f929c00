import { writeSync } from "node:fs";
import type { LogConfig, LogLevel } from "#config/config.ts";
import { formatAsText, levelName } from "./log-text.ts";
import { showError } from "./logged-error.ts";

/** From the least to the gravest. */
const levels = ["trace", "debug", "info", "warn", "error", "fatal"] as const;
type Level = (typeof levels)[number];

/** Writes an entry: what happened, and what it concerns as fields. An error stands in the field `err`. */
export interface LogEntry {
  (message: string): void;
  (fields: object, message: string): void;
}

/** The log of a process. */
export type Logger = Readonly<Record<Exclude<Level, "trace">, LogEntry>> & {
  /** The least that is told. */
  level: LogLevel;
};

const standardError = 2;

/** What is added to every entry, such as the trace that it belongs to. */
export type LogFields = () => Readonly<Record<string, unknown>>;

/**
 * Opens the log of a process: a line for each entry on standard error, as text or as a JSON object, written synchronously, so that the last line before a
 * crash is not lost. Fields have the same names everywhere:
 * `ns, ref, digest, key, container, exec, pid, rpc, durMs, bytes, err`.
 *
 * @source containerd v2.3.4 cmd/containerd/command/main.go `setLogFormat`; containerd/log v0.1 context.go `RFC3339NanoFixed`
 */
export function openLog(
  process: string,
  { level, format }: Pick<LogConfig, "level" | "format">,
  more: LogFields = () => ({}),
): Logger {
  const log = { level };
  const write = (entryLevel: Level, { err, ...fields }: { readonly err?: unknown }, message: string): void => {
    const line = writeAsJson({
      level: levelName(entryLevel),
      time: new Date().toISOString().replace("Z", "000000Z"),
      process,
      ...more(),
      ...fields,
      ...(err === undefined ? {} : { err: showError(err) }),
      msg: message,
    });
    writeLine(format === "json" ? `${line}\n` : formatAsText(line));
  };
  const at = (entryLevel: Level): LogEntry => {
    const grade = levels.indexOf(entryLevel);
    return (first: object | string, message?: string) => {
      if (grade < levels.indexOf(levelOf(log.level))) {
        return;
      }
      if (typeof first === "string") {
        write(entryLevel, {}, first);
      } else {
        write(entryLevel, first, message ?? "");
      }
    };
  };
  return Object.assign(log, {
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    fatal: at("fatal"),
  });
}

/** Sets what a log tells from now on. */
export function setLogLevel(log: Logger, level: LogLevel): void {
  log.level = level;
}

function levelOf(level: LogLevel): Level {
  return level === "panic" ? "fatal" : level;
}

/** Numbers of any size are numbers as long as every reader gets them right. */
function writeAsJson(entry: object): string {
  return JSON.stringify(entry, (_name, value: unknown) => {
    if (typeof value !== "bigint") {
      return value;
    }
    return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
  });
}

/** Waits for whoever reads the log: a pipe that is full takes nothing at the moment. */
function writeLine(line: string): void {
  let rest: Buffer = Buffer.from(line);
  while (rest.length > 0) {
    rest = rest.subarray(writeToError(rest));
  }
}

function writeToError(bytes: Buffer): number {
  try {
    return writeSync(standardError, bytes);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EAGAIN") {
      throw error;
    }
    Atomics.wait(sleeper, 0, 0, retryMs);
    return 0;
  }
}

const retryMs = 10;
const sleeper = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
