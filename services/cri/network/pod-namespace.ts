import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { readlinkSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import type { IDMapping } from "#gen/runtime/v1/api_pb.ts";
import { keepNamespace, makeNetworkNamespace, releaseNamespace } from "#linux/network-namespace.ts";

/** Ids of the host that ids of a user namespace mean. */
export interface UserMappings {
  readonly uids: readonly IDMapping[];
  readonly gids: readonly IDMapping[];
}

/** A path for a new network namespace, named as containerd names them. @source containerd v2.3.4 pkg/netns/netns_linux.go `newNS` */
export function newNamespacePath(directory: string): string {
  return `${directory}/cni-${randomUUID()}`;
}

/** Makes a network namespace at a path; the directory is made when it is not there. */
export async function makePodNetworkNamespace(directory: string, path: string): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o755 });
  await makeNetworkNamespace(path);
}

/** How long the program that enters new namespaces may take for it. */
const enterMsMax = 10_000;
const enterPollMs = 5;

/**
 * Makes a network namespace that belongs to a new user namespace, and mounts both.
 *
 * A program enters them and is ended once they are mounted: a user namespace can only be made by a process with a single thread.
 *
 * @throws {@link FlotillaError} when a mapping is refused; nothing is left behind.
 * @source containerd v2.3.4 internal/cri/server/sandbox_run_linux.go `setupNetnsWithinUserns`, pkg/sys/unshare_linux.go
 */
export async function makeMappedNamespaces(
  { uids, gids }: UserMappings,
  paths: { readonly directory: string; readonly network: string; readonly user: string },
): Promise<void> {
  for (const [what, mappings] of [
    ["uid", uids],
    ["gid", gids],
  ] as const) {
    if (mappings.length !== 1) {
      throw new FlotillaError(
        ErrorKind.Unknown,
        `required only one ${what} mapping, but got ${mappings.length} ${what} mapping(s)`,
      );
    }
  }
  await mkdir(paths.directory, { recursive: true, mode: 0o755 });
  await mkdir(paths.user.slice(0, paths.user.lastIndexOf("/")), { recursive: true, mode: 0o755 });
  const program = spawn("unshare", ["--user", "--net", "--", "sleep", String(enterMsMax / 1000)], { stdio: "ignore" });
  const ended = new Promise<void>((resolve) => {
    program.once("close", () => resolve());
    program.once("error", () => resolve());
  });
  try {
    const { pid } = program;
    if (pid === undefined) {
      throw new FlotillaError(ErrorKind.Unknown, "unshare can't be run");
    }
    await entered(pid);
    await writeFile(`/proc/${pid}/uid_map`, mapText(uids));
    await writeFile(`/proc/${pid}/gid_map`, mapText(gids));
    await keepNamespace(`/proc/${pid}/ns/net`, paths.network);
    try {
      await keepNamespace(`/proc/${pid}/ns/user`, paths.user);
    } catch (error) {
      await releaseNamespace(paths.network);
      throw error;
    }
  } finally {
    program.kill("SIGKILL");
    await ended;
  }
}

function mapText(mappings: readonly IDMapping[]): string {
  return mappings.map(({ containerId, hostId, length }) => `${containerId} ${hostId} ${length}\n`).join("");
}

/** Resolves when a process has left the network of this one, which it does after it has left the users. */
async function entered(pid: number): Promise<void> {
  const deadline = performance.now() + enterMsMax;
  const own = readlinkSync("/proc/self/ns/net");
  while (readlinkSync(`/proc/${pid}/ns/net`) === own) {
    if (performance.now() > deadline) {
      throw new FlotillaError(ErrorKind.DeadlineExceeded, "unshare does not enter its namespaces");
    }
    await delay(enterPollMs);
  }
}
