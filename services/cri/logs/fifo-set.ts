import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { makeFifo } from "#linux/fifo.ts";

/** The named pipes of a process in a container, as a shim is told of them: empty text where there is none. */
export interface FifoPaths {
  readonly stdin: string;
  readonly stdout: string;
  readonly stderr: string;
  /** Whether a terminal stands between the pipes and the process; it has no stderr. */
  readonly terminal: boolean;
}

const directoryMode = 0o700;
const fifoMode = 0o700;

/**
 * Makes the named pipes of a process, in a new directory of their own below `<directory>/io`.
 *
 * @param directory - Of the container, in the state that a reboot forgets.
 * @param id - Of the container or of the process that joins it; the pipes are named after it.
 * @source containerd v2.3.4 internal/cri/io/helpers.go `newFifos`, pkg/cio/io_unix.go `NewFIFOSetInDir`
 */
export async function makeFifoSet(
  directory: string,
  id: string,
  { terminal, stdin }: { readonly terminal: boolean; readonly stdin: boolean },
): Promise<FifoPaths> {
  const parent = join(directory, "io");
  await mkdir(parent, { recursive: true, mode: directoryMode });
  const place = await mkdtemp(`${parent}/`);
  const paths = {
    stdin: stdin ? join(place, `${id}-stdin`) : "",
    stdout: join(place, `${id}-stdout`),
    stderr: terminal ? "" : join(place, `${id}-stderr`),
    terminal,
  };
  try {
    for (const path of fifosOf(paths)) {
      makeFifo(path, fifoMode);
    }
  } catch (error) {
    await rm(place, { recursive: true, force: true });
    throw error;
  }
  return paths;
}

/** Removes the named pipes of a process and the directory that was made for them. Who has one open keeps it. */
export async function removeFifoSet(paths: FifoPaths): Promise<void> {
  for (const place of new Set(fifosOf(paths).map((path) => dirname(path)))) {
    await rm(place, { recursive: true, force: true });
  }
}

function fifosOf({ stdin, stdout, stderr }: FifoPaths): string[] {
  return [stdin, stdout, stderr].filter((path) => path !== "");
}
