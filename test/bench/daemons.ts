import { type Daemon, startContainerd, startFlotilla } from "../kit/daemon.ts";
import type { Side } from "./measurement.ts";

/** Both daemons, on directories of their own, ended together. */
export type Daemons = Readonly<Record<Side, Daemon>> & AsyncDisposable;

/** Starts one side. */
export function startSide(side: Side): Promise<Daemon> {
  return side === "flotilla" ? startFlotilla() : startContainerd();
}

/** Starts both sides; the one that is not being measured is idle. */
export async function startBoth(): Promise<Daemons> {
  await using resources = new AsyncDisposableStack();
  const flotilla = resources.use(await startSide("flotilla"));
  const containerd = resources.use(await startSide("containerd"));
  const owned = resources.move();
  return { flotilla, containerd, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** Runs `ctr` on a daemon. @throws Error with what it printed when it fails. */
export async function ctr(daemon: Daemon, ...args: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await daemon.ctr(...args);
  if (exitCode !== 0) {
    throw new Error(`ctr ${args.join(" ")}: ${stderr}`);
  }
  return stdout;
}
