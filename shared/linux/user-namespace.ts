import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, readlinkSync, writeFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { ErrorKind, errorMessage, FlotillaError, systemErrorCode } from "#base/errors.ts";

/** How long a process may take to be in a namespace of its own, and how often is looked. */
const waitMsMax = 10_000;
const pollMs = 2;

/** A user namespace that lives as long as it is open. */
export interface UserNamespace extends Disposable {
  readonly descriptor: number;
}

/**
 * Makes a user namespace with the given ids.
 *
 * Node.js has many threads, none of which may leave the namespace of the others, so that a program makes it.
 *
 * @param uidMap - `container:host:size`, and more after commas.
 * @throws {@link FlotillaError} `unknown`, in containerd's words for maps that make no sense; system errors for what the kernel refuses.
 * @source containerd v2.3.4 core/mount/mount_idmapped_linux.go `GetUsernsFD`, user_namespaces(7)
 */
export async function openUserNamespace(uidMap: string, gidMap: string): Promise<UserNamespace> {
  const [uids, gids] = [readMap(uidMap), readMap(gidMap)];
  const keeper = spawn("unshare", ["--user", "cat"], { stdio: ["pipe", "ignore", "ignore"] });
  const failed = once(keeper, "exit").catch((error: unknown) => error);
  try {
    const { pid } = keeper;
    if (pid === undefined) {
      throw new FlotillaError(
        ErrorKind.Unknown,
        `failed to start noop process for unshare: ${errorMessage(await failed)}`,
      );
    }
    await untilApart(pid);
    writeFileSync(`/proc/${pid}/uid_map`, uids);
    writeFileSync(`/proc/${pid}/gid_map`, gids);
    const descriptor = openSync(`/proc/${pid}/ns/user`, "r");
    return { descriptor, [Symbol.dispose]: () => closeSync(descriptor) };
  } finally {
    keeper.kill("SIGKILL");
    await failed;
  }
}

/** Waits until a process is in a user namespace of its own. */
async function untilApart(pid: number): Promise<void> {
  const ours = readlinkSync("/proc/self/ns/user");
  for (const deadline = performance.now() + waitMsMax; ; await delay(pollMs)) {
    try {
      if (readlinkSync(`/proc/${pid}/ns/user`) !== ours) {
        return;
      }
    } catch (error) {
      if (systemErrorCode(error) === "ENOENT") {
        throw new FlotillaError(ErrorKind.Unknown, "failed to start noop process for unshare: it has ended");
      }
      throw error;
    }
    if (performance.now() > deadline) {
      throw new FlotillaError(
        ErrorKind.DeadlineExceeded,
        "failed to start noop process for unshare: it takes too long",
      );
    }
  }
}

/** Puts a map into the words of the kernel. */
function readMap(map: string): string {
  return map
    .split(",")
    .map((range) => {
      const numbers = range.split(":");
      if (numbers.length !== 3) {
        throw new FlotillaError(
          ErrorKind.Unknown,
          "user namespace mappings require the format `container-id:host-id:size`",
        );
      }
      if (!numbers.every((number) => /^\d+$/.test(number))) {
        throw new FlotillaError(
          ErrorKind.Unknown,
          `invalid mapping ${range}, all IDs and size must be positive integers`,
        );
      }
      return `${numbers.join(" ")}\n`;
    })
    .join("");
}
