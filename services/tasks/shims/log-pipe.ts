import { closeSync, constants, fstatSync, openSync } from "node:fs";
import net from "node:net";
import { ErrorKind, FlotillaError, systemErrorCode } from "#base/errors.ts";
import { makeFifo } from "#linux/fifo.ts";

/** Longest line that is passed on; the rest of a longer one counts as the next. */
const lineBytesMax = 4096;

/** The reading end of a shim's log. */
export interface LogPipe {
  close(): void;
}

/**
 * Opens the named pipe `log` of a bundle, into which its shim writes its own log, and hands on each line. A shim does not
 * start before somebody reads there.
 *
 * The pipe is open for writing too, so that it does not end when a shim closes it.
 *
 * @throws {@link FlotillaError} when the pipe can't be made or something else has its name.
 * @source containerd v2.3.4 core/runtime/v2/shim_unix.go `openShimLog`
 */
export function openLogPipe(path: string, onLine: (line: string) => void): LogPipe {
  try {
    makeFifo(path, 0o700);
  } catch (error) {
    if (systemErrorCode(error) !== "EEXIST") {
      throw error;
    }
  }
  const descriptor = openSync(path, constants.O_RDWR | constants.O_NONBLOCK | constants.O_NOFOLLOW);
  if (!fstatSync(descriptor).isFIFO()) {
    closeSync(descriptor);
    throw new FlotillaError(ErrorKind.Unknown, `${path} is no named pipe`);
  }
  const pipe = new net.Socket({ fd: descriptor, readable: true, writable: false });
  let rest = "";
  pipe.setEncoding("utf8");
  pipe.on("data", (chunk: string) => {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      onLine(line);
    }
    if (rest.length > lineBytesMax) {
      onLine(rest);
      rest = "";
    }
  });
  pipe.on("error", () => pipe.destroy());
  pipe.unref();
  return { close: () => pipe.destroy() };
}
