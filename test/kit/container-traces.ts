import { createHash } from "node:crypto";
import { existsSync, globSync, readdirSync, rmdirSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { systemErrorCode } from "#base/errors.ts";
import { until } from "./processes.ts";

/** A container as shims and runc name it on the whole machine. */
export interface ContainerName {
  readonly namespace: string;
  readonly id: string;
}

/** Where shims of Debian's containerd and of ours listen. @source containerd v2.3.4 pkg/shim/util_unix.go `SocketAddress` */
const shimSockets = "/run/containerd/s";
/** @source containerd v2.3.4 cmd/containerd-shim-runc-v2/process `RuncRoot` */
const runcState = "/run/containerd/runc";

/** The containers that have a bundle in the state directory of a daemon. */
export function listBundles(state: string): ContainerName[] {
  const base = `${state}/io.containerd.runtime.v2.task`;
  return listNames(base).flatMap((namespace) => listNames(join(base, namespace)).map((id) => ({ namespace, id })));
}

/** The socket that a shim has for a container of a daemon. @source containerd v2.3.4 pkg/shim/util_unix.go `SocketAddress` */
export function shimSocketOf(address: string, { namespace, id }: ContainerName): string {
  const name = createHash("sha256")
    .update(join(address, namespace, id))
    .digest("hex");
  return `${shimSockets}/${name}`;
}

/** The cgroups of a namespace, with those in them, children first, in every hierarchy. */
export function listCgroups(namespace: string): string[] {
  return globSync(`/sys/fs/cgroup/{,*/,*/*/}${namespace}{,/**/}`)
    .map((path) => path.replace(/\/$/, ""))
    .filter((path, index, all) => all.indexOf(path) === index && existsSync(`${path}/cgroup.procs`))
    .sort((left, right) => right.length - left.length);
}

/** Removes empty cgroups, waiting for the kernel to let go of processes that have just ended. */
export async function removeCgroups(paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    await until(
      () => tryRemove(path),
      () => `cgroup ${path} is still in use`,
    );
  }
}

function tryRemove(path: string): boolean {
  try {
    rmdirSync(path);
    return true;
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") {
      return true;
    }
    if (systemErrorCode(error) === "EBUSY") {
      return false;
    }
    throw error;
  }
}

/** Where runc keeps the state of the containers of a namespace. */
export function runcStateOf(namespace: string): string {
  return `${runcState}/${namespace}`;
}

/** Removes what shims and runc have left of a container that does not run any more, apart from cgroups. */
export async function removeContainerTraces(address: string, name: ContainerName): Promise<void> {
  await rm(shimSocketOf(address, name), { force: true });
  await rm(`${runcStateOf(name.namespace)}/${name.id}`, { recursive: true, force: true });
  if (listNames(runcStateOf(name.namespace)).length === 0) {
    await rm(runcStateOf(name.namespace), { recursive: true, force: true });
  }
}

function listNames(directory: string): string[] {
  return existsSync(directory) ? readdirSync(directory) : [];
}
