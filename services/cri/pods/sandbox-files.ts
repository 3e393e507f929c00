import { access, copyFile, mkdir, rm, writeFile } from "node:fs/promises";
import { hostname as machineName } from "node:os";
import { ErrorKind, errorMessage, FlotillaError, wrapFailure } from "#base/errors.ts";
import { type DNSConfig, NamespaceMode, type PodSandboxConfig } from "#gen/runtime/v1/api_pb.ts";
import { mountOne } from "#linux/mount.ts";
import { releaseNamespace } from "#linux/network-namespace.ts";
import { unmountAll, unmountRecursive } from "#linux/unmount.ts";
import type { Pod } from "../store/pod.ts";

type Places = Pick<Pod, "directory" | "stateDirectory">;

/** Where the files of a pod are. @source containerd v2.3.4 internal/cri/server/podsandbox/helpers_linux.go */
export const podFiles = {
  hostname: ({ directory }: Places): string => `${directory}/hostname`,
  hosts: ({ directory }: Places): string => `${directory}/hosts`,
  resolvConf: ({ directory }: Places): string => `${directory}/resolv.conf`,
  shm: ({ stateDirectory }: Places): string => `${stateDirectory}/shm`,
  userNamespace: ({ stateDirectory }: Places): string => `${stateDirectory}/pinned-namespaces/user`,
} as const;

/** Shared memory of the machine. */
export const hostShm = "/dev/shm";

/** @source containerd v2.3.4 internal/cri/server/podsandbox/helpers_linux.go `defaultShmSize` */
const shmBytes = 64 * 1024 * 1024;

const directoryMode = 0o755;
const fileMode = 0o644;

/** Whether a pod shares memory with the machine. */
export function hasHostIpc({ linux }: PodSandboxConfig): boolean {
  return linux?.securityContext?.namespaceOptions?.ipc === NamespaceMode.NODE;
}

/**
 * Makes what containers of a pod find in `/etc` and `/dev/shm`.
 *
 * @throws {@link FlotillaError} `unknown` with containerd's text. {@link removePodFiles} undoes what was made.
 * @source containerd v2.3.4 internal/cri/server/podsandbox/sandbox_run_linux.go `setupSandboxFiles`
 */
export async function makePodFiles(pod: Places & Pick<Pod, "config">): Promise<void> {
  const { directory, stateDirectory, config } = pod;
  await Promise.all([
    mkdir(directory, { recursive: true, mode: directoryMode }),
    mkdir(stateDirectory, { recursive: true, mode: directoryMode }),
  ]);
  await Promise.all([
    writeFile(podFiles.hostname(pod), `${config.hostname || machineName()}\n`, { mode: fileMode }),
    copyHostFile("/etc/hosts", podFiles.hosts(pod)),
    config.dnsConfig === undefined
      ? copyHostFile("/etc/resolv.conf", podFiles.resolvConf(pod))
      : writeFile(podFiles.resolvConf(pod), resolvConf(config.dnsConfig), { mode: fileMode }),
    hasHostIpc(config) ? requireHostShm() : mountShm(podFiles.shm(pod)),
  ]).catch((error: unknown) => {
    throw wrapFailure(error, "failed to setup sandbox files");
  });
}

/** Takes off what is mounted for a pod, when it has stopped. May be repeated. */
export async function unmountPodFiles(pod: Places): Promise<void> {
  await unmountAll(podFiles.shm(pod), { detach: true });
}

/** Removes the files of a pod. May be repeated. */
export async function removePodFiles(pod: Places): Promise<void> {
  await unmountPodFiles(pod);
  await releaseNamespace(podFiles.userNamespace(pod));
  await unmountRecursive(pod.stateDirectory, { detach: true });
  await Promise.all([
    rm(pod.directory, { recursive: true, force: true }),
    rm(pod.stateDirectory, { recursive: true, force: true }),
  ]);
}

/** @source containerd v2.3.4 internal/cri/server/podsandbox/sandbox_run_linux.go `parseDNSOptions` */
export function resolvConf({ servers, searches, options }: DNSConfig): string {
  return [
    ...(searches.length > 0 ? [`search ${searches.join(" ")}\n`] : []),
    ...servers.map((server) => `nameserver ${server}\n`),
    ...(options.length > 0 ? [`options ${options.join(" ")}\n`] : []),
  ].join("");
}

async function copyHostFile(source: string, target: string): Promise<void> {
  try {
    await copyFile(source, target);
  } catch (error) {
    throw new FlotillaError(ErrorKind.Unknown, `failed to copy ${source} to ${target}: ${errorMessage(error)}`);
  }
}

async function requireHostShm(): Promise<void> {
  await access(hostShm).catch((error: unknown) => {
    throw wrapFailure(error, `host "${hostShm}" is not available for host ipc`);
  });
}

async function mountShm(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  const options = ["noexec", "nosuid", "nodev", "mode=1777", `size=${shmBytes}`];
  await mountOne({ type: "tmpfs", source: "shm", options }, path);
}
