import { readlink } from "node:fs/promises";
import { execa } from "execa";
import { until } from "./processes.ts";

const mountNamespaceOf = (process: number | "self"): Promise<string> => readlink(`/proc/${process}/ns/mnt`);

/**
 * Holds all mounts of this moment in a second mount namespace until it is disposed of. As a container does that is being started: it has them
 * until it has its own root.
 */
export async function holdMounts(): Promise<AsyncDisposable> {
  const keeper = execa("unshare", ["--mount", "--propagation", "private", "sleep", "60"], { reject: false });
  await until(
    async () => (await mountNamespaceOf(keeper.pid ?? 0)) !== (await mountNamespaceOf("self")),
    () => "there is no second mount namespace",
  );
  return {
    [Symbol.asyncDispose]: async () => {
      keeper.kill("SIGKILL");
      await keeper;
    },
  };
}
