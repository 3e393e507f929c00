import type { Logger } from "#fleet/log.ts";

const notifyMsMax = 2_000;

/**
 * Tells the service manager about the state of the daemon, if there is one (`NOTIFY_SOCKET` is set). Node.js has no Unix
 * datagram sockets, so the `systemd-notify` program carries the message.
 *
 * @param states - For example `READY=1` or `STATUS=serving`.
 * @source sd_notify(3)
 */
export async function notifyServiceManager(log: Logger, ...states: string[]): Promise<void> {
  if (process.env["NOTIFY_SOCKET"] === undefined) {
    return;
  }
  const { execa } = await import("execa");
  const { failed, shortMessage } = await execa("systemd-notify", [`--pid=${process.pid}`, ...states], {
    reject: false,
    timeout: notifyMsMax,
  });
  if (failed) {
    log.warn({ err: shortMessage }, "notifying the service manager failed");
  }
}
