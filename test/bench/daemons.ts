import { type Daemon, type DaemonOptions, startContainerd, startFlotilla } from "../kit/daemon.ts";
import { type BenchFileSystem, makeFileSystem } from "./file-system.ts";
import type { Side } from "./measurement.ts";

/** Both daemons, on directories of their own, ended together. */
export type Daemons = Readonly<Record<Side, Daemon>> & AsyncDisposable;

type SideOptions = Pick<DaemonOptions, "parent" | "config">;

/** Starts one side. @param options - Where its directory is made, in place of `/tmp`; its configuration. */
export function startSide(side: Side, options: SideOptions = {}): Promise<Daemon> {
  return side === "flotilla" ? startFlotilla(options) : startContainerd(options);
}

/** Starts both sides; the one that is not being measured is idle. */
export function startBoth(): Promise<Daemons> {
  return startBothIn(() => ({}), new AsyncDisposableStack());
}

/** As {@link startBoth}, on a file system of their own: for what writes and deletes many files. */
export async function startBothApart(): Promise<Daemons> {
  const resources = new AsyncDisposableStack();
  const fileSystem = resources.use(await makeFileSystem());
  return await startBothIn(() => ({ parent: fileSystem.path }), resources);
}

/** As {@link startBoth}, on a file system that outlives them. @param config - Lines of TOML for a side. */
export function startBothOn({ path }: BenchFileSystem, config: (side: Side) => string = () => ""): Promise<Daemons> {
  return startBothIn((side) => ({ parent: path, config: config(side) }), new AsyncDisposableStack());
}

/** @param before - Ended after both daemons. */
async function startBothIn(options: (side: Side) => SideOptions, before: AsyncDisposableStack): Promise<Daemons> {
  await using resources = before;
  const flotilla = resources.use(await startSide("flotilla", options("flotilla")));
  const containerd = resources.use(await startSide("containerd", options("containerd")));
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
