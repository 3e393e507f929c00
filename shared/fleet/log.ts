import { destination, type Logger as PinoLogger, pino, stdTimeFunctions } from "pino";
import type { LogLevel } from "#config/config.ts";

export type Logger = PinoLogger;

/**
 * Opens the log of a process: one JSON object a line on standard error, whatever `[debug] format` says, written synchronously, so that the last line before a
 * crash is not lost. Fields have the same names everywhere:
 * `ns, ref, digest, key, container, exec, pid, rpc, durMs, bytes, err`.
 */
export function openLog(process: string, level: LogLevel): Logger {
  return pino(
    {
      level: level === "panic" ? "fatal" : level,
      base: { process },
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    destination({ dest: 2, sync: true }),
  );
}
