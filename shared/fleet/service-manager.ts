import type { Logger } from "./log.ts";

/** What a service manager tells a process, and what is no business of its children. @source sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3) */
export const serviceManagerVariables = [
  "NOTIFY_SOCKET",
  "WATCHDOG_USEC",
  "WATCHDOG_PID",
  "LISTEN_PID",
  "LISTEN_FDS",
  "LISTEN_FDNAMES",
] as const;

/**
 * Tells the service manager about the state of this process, if there is one.
 *
 * @param states - For example `READY=1` or `STATUS=serving`.
 * @source sd_notify(3)
 */
export async function notifyServiceManager(log: Logger, ...states: string[]): Promise<void> {
  const path = process.env["NOTIFY_SOCKET"] ?? "";
  if (path === "") {
    return;
  }
  // Loaded only where it is needed: it brings native calls with it.
  const { sendDatagram } = await import("#linux/datagram.ts");
  try {
    sendDatagram(path, states.join("\n"));
  } catch (error) {
    log.warn({ err: error }, "notifying the service manager failed");
  }
}

/**
 * Shows the service manager again and again that this process lives and is well, if it wants to know. When its event loop hangs, or it is not well for as
 * long as the unit says, it is killed and started again.
 *
 * @param isWell - Asked each time.
 * @source sd_watchdog_enabled(3)
 */
export function keepWatchdog(log: Logger, isWell: () => boolean = () => true): void {
  const { WATCHDOG_USEC: limitUs = "", WATCHDOG_PID: pid = String(process.pid) } = process.env;
  const limitMs = Number(limitUs) / 1000;
  if (limitMs > 0 && pid === String(process.pid)) {
    setInterval(() => {
      if (isWell()) {
        void notifyServiceManager(log, "WATCHDOG=1");
      }
    }, limitMs / 3).unref();
  }
}
