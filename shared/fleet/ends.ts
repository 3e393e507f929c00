import type { Logger } from "./log.ts";
import { showSourcePlaces } from "./source-places.ts";

/** Exit status after a bug. @source sysexits.h `EX_SOFTWARE` */
const exitSoftware = 70;

/** Logs what nobody caught and ends the process: a restart repairs, going on after a bug does not. */
export function endOnBug(log: Logger): void {
  const end = (error: unknown): void => {
    showSourcePlaces(error);
    log.fatal({ err: error }, "uncaught exception");
    process.exit(exitSoftware);
  };
  process.on("uncaughtException", end);
  process.on("unhandledRejection", end);
}

/** Ends the process by force if its event loop is not empty in time. */
export function forceExitAfter(limitMs: number): void {
  setTimeout(() => process.exit(process.exitCode ?? 1), limitMs).unref();
}
