import { writeSync } from "node:fs";
import { type DestinationStream, destination, type Logger as PinoLogger, pino } from "pino";
import type { LogConfig, LogLevel } from "#config/config.ts";
import { formatAsText, levelName } from "./log-text.ts";

export type Logger = PinoLogger;

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
  more?: LogFields,
): Logger {
  return pino(
    {
      level: levelOf(level),
      base: { process },
      timestamp: () => `,"time":"${new Date().toISOString().replace("Z", "000000Z")}"`,
      formatters: { level: (label) => ({ level: levelName(label) }) },
      ...(more === undefined ? {} : { mixin: more }),
    },
    format === "json" ? destination({ dest: standardError, sync: true }) : textDestination,
  );
}

/** Sets what a log tells from now on. */
export function setLogLevel(log: Logger, level: LogLevel): void {
  log.level = levelOf(level);
}

function levelOf(level: LogLevel): string {
  return level === "panic" ? "fatal" : level;
}

const textDestination: DestinationStream = {
  write: (line) => {
    let rest = Buffer.from(formatAsText(line));
    while (rest.length > 0) {
      rest = rest.subarray(writeToError(rest));
    }
  },
};

/** Waits for whoever reads the log, as the destination of pino does: a pipe that is full takes nothing at the moment. */
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
