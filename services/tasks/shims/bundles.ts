import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  renameSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { access, mkdir, readdir, rm, stat, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import type { Any } from "@bufbuild/protobuf/wkt";
import { ErrorKind, FlotillaError, systemErrorCode, wrapFailure } from "#base/errors.ts";
import { validateIdentifier } from "#containerd/identifier.ts";
import { errnoText } from "#linux/libc.ts";
import { unmountRecursive } from "#linux/unmount.ts";

/** The directory of one task: specification, root file system, and what its runtime keeps there. */
export interface Bundle {
  readonly namespace: string;
  readonly id: string;
  /** Such as `<state>/io.containerd.runtime.v2.task/<namespace>/<id>`; of a bundle that is being removed, `.<id>`. */
  readonly path: string;
  /** Directory for what the runtime keeps across a reboot; the bundle's link `work` leads to it. */
  readonly workPath: string;
}

/** What lies in the directory of bundles. */
export interface BundleListing {
  readonly bundles: readonly Bundle[];
  /** Bundles whose removal was interrupted. */
  readonly hidden: readonly Bundle[];
  /** Names that no bundle may have, and what is no directory. They are left alone. */
  readonly refused: readonly string[];
}

const specFileName = "config.json";
const sandboxMarkName = "sandbox-controller";
const deletedMarkName = "deleted";
const rootfsName = "rootfs";
const workLinkName = "work";
const specTypeUrl = "types.containerd.io/opencontainers/runtime-spec/1/Spec";

/**
 * Bundles on disk, in containerd's own layout, so that either daemon finds the other's containers.
 *
 * Nothing here is flushed: a bundle is worth nothing after a reboot, and a killed process leaves its writes in the page cache. So what
 * makes and removes one bundle takes microseconds in the kernel, and is done at once: by way of the pool of threads each step would cost
 * ten times as much, for which the container would wait.
 *
 * @source containerd v2.3.4 core/runtime/v2/bundle.go
 */
export class Bundles {
  readonly #stateRoot: string;
  readonly #workRoot: string;

  constructor(directories: { readonly state: string; readonly root: string }) {
    this.#stateRoot = directories.state;
    this.#workRoot = directories.root;
  }

  /** Makes the directories in which bundles lie. Others may walk through them, for containers with mapped users. */
  async prepare(): Promise<void> {
    await Promise.all([this.#stateRoot, this.#workRoot].map((path) => mkdir(path, { recursive: true, mode: 0o711 })));
  }

  /**
   * Makes a bundle. When this fails nothing of it is left.
   *
   * @param spec - Written down byte for byte; undefined for a sandbox without one.
   * @throws {@link FlotillaError} `invalid_argument` for an id that is none; `unknown` when the disk says no, also if the bundle is there.
   */
  create(namespace: string, id: string, spec: Any | undefined): Bundle {
    try {
      validateIdentifier(id);
    } catch (error) {
      throw wrapFailure(error, `invalid task id ${id}`);
    }
    const bundle = this.#bundle(namespace, id);
    makeParent(bundle.path);
    try {
      mkdirSync(bundle.path, { mode: 0o700 });
    } catch (error) {
      throw goPathError(error, "mkdir", bundle.path);
    }
    try {
      makeWorkDirectory(bundle);
      mkdirSync(`${bundle.path}/${rootfsName}`, { mode: 0o711 });
      if (spec !== undefined && spec.value.length > 0) {
        writeSpec(bundle, spec);
      }
    } catch (error) {
      eraseFiles(bundle);
      throw wrapFailure(error, `failed to make bundle of ${id}`);
    }
    return bundle;
  }

  /**
   * Takes a bundle out of sight in one step. From then on it counts as gone; {@link erase} does the rest, now or after a
   * restart.
   *
   * @returns The bundle at its hidden place.
   * @source containerd v2.3.4 core/runtime/v2/bundle.go `atomicDelete`
   */
  async hide(bundle: Bundle): Promise<Bundle> {
    const hidden = { ...bundle, path: `${dirname(bundle.path)}/.${bundle.id}` };
    try {
      renameSync(bundle.path, hidden.path);
    } catch (error) {
      if (systemErrorCode(error) !== "ENOTEMPTY" && systemErrorCode(error) !== "EEXIST") {
        throw error;
      }
      await this.erase(hidden);
      renameSync(bundle.path, hidden.path);
    }
    return hidden;
  }

  /**
   * Deletes a hidden bundle and its working directory, after all that is mounted below it has been taken off.
   *
   * @throws {@link FlotillaError} when something can't be unmounted, or files lie in the root file system: they are not ours to
   *   delete.
   */
  async erase(hidden: Bundle): Promise<void> {
    await unmountRecursive(hidden.path);
    try {
      rmdirSync(`${hidden.path}/${rootfsName}`);
    } catch (error) {
      if (systemErrorCode(error) !== "ENOENT") {
        throw wrapFailure(error, "failed to remove bundle rootfs");
      }
    }
    eraseFiles(hidden);
  }

  /** Everything that lies in the directory of bundles. Links are not followed. */
  async list(): Promise<BundleListing> {
    const listing = { bundles: [] as Bundle[], hidden: [] as Bundle[], refused: [] as string[] };
    for (const namespace of await readdir(this.#stateRoot, { withFileTypes: true })) {
      if (!namespace.isDirectory() || !isIdentifier(namespace.name)) {
        listing.refused.push(namespace.name);
        continue;
      }
      for (const entry of await readdir(`${this.#stateRoot}/${namespace.name}`, { withFileTypes: true })) {
        const isHidden = entry.name.startsWith(".");
        const id = isHidden ? entry.name.slice(1) : entry.name;
        if (!entry.isDirectory() || !isIdentifier(id)) {
          listing.refused.push(`${namespace.name}/${entry.name}`);
        } else if (isHidden) {
          const bundle = this.#bundle(namespace.name, id);
          listing.hidden.push({ ...bundle, path: `${dirname(bundle.path)}/${entry.name}` });
        } else {
          listing.bundles.push(this.#bundle(namespace.name, id));
        }
      }
    }
    return listing;
  }

  /** Deletes working directories whose bundle is gone, as after a reboot. @source containerd v2.3.4 core/runtime/v2/shim_load.go `cleanupWorkDirs` */
  async eraseStrayWorkDirectories(): Promise<void> {
    const { bundles, hidden } = await this.list();
    const known = new Set([...bundles, ...hidden].map(({ workPath }) => workPath));
    for (const namespace of await readdir(this.#workRoot, { withFileTypes: true })) {
      if (namespace.isDirectory() && isIdentifier(namespace.name)) {
        for (const id of await readdir(`${this.#workRoot}/${namespace.name}`)) {
          const path = `${this.#workRoot}/${namespace.name}/${id}`;
          if (!known.has(path)) {
            await rm(path, { recursive: true, force: true });
          }
        }
      }
    }
  }

  #bundle(namespace: string, id: string): Bundle {
    return {
      namespace,
      id,
      path: `${this.#stateRoot}/${namespace}/${id}`,
      workPath: `${this.#workRoot}/${namespace}/${id}`,
    };
  }
}

function makeWorkDirectory({ path, workPath }: Bundle): void {
  makeParent(workPath);
  try {
    mkdirSync(workPath, { mode: 0o711 });
  } catch (error) {
    if (systemErrorCode(error) !== "EEXIST") {
      throw error;
    }
    rmSync(workPath, { recursive: true, force: true });
    mkdirSync(workPath, { mode: 0o711 });
  }
  symlinkSync(workPath, `${path}/${workLinkName}`);
}

function writeSpec({ path }: Bundle, spec: Any): void {
  const gid = spec.typeUrl === specTypeUrl ? findRemappedRootGroup(spec.value) : undefined;
  if (gid !== undefined) {
    chownSync(path, -1, gid);
    chmodSync(path, 0o710);
  }
  writeFileSync(`${path}/${specFileName}`, spec.value, { flag: "wx", mode: 0o644 });
}

function eraseFiles({ path, workPath }: Bundle): void {
  rmSync(path, { recursive: true, force: true });
  rmSync(workPath, { recursive: true, force: true });
}

/** Notes that the shim of a bundle is that of a sandbox and has no task of the bundle's id. */
export async function markAsSandbox({ path }: Bundle): Promise<void> {
  await writeFile(`${path}/${sandboxMarkName}`, "", { mode: 0o600 });
}

/** Tells whether a bundle is marked as that of a sandbox. */
export function isMarkedAsSandbox({ path }: Bundle): Promise<boolean> {
  return access(`${path}/${sandboxMarkName}`).then(
    () => true,
    () => false,
  );
}

/** Notes that the task of a bundle is deleted, as its supervisor has told the world. */
export function markAsDeleted({ path }: Bundle): void {
  writeFileSync(`${path}/${deletedMarkName}`, "", { mode: 0o600 });
}

/** Tells whether nothing of the task of a bundle is still to be told. */
export function isMarkedAsDeleted({ path }: Bundle): boolean {
  return existsSync(`${path}/${deletedMarkName}`);
}

/**
 * Tells two bundles of one id apart that exist one after the other, also across restarts of the process.
 *
 * @throws the system's error when the bundle is gone.
 */
export async function incarnationOf({ path }: Bundle): Promise<string> {
  const { ino, birthtimeNs } = await stat(path, { bigint: true });
  return `${birthtimeNs}-${ino}`;
}

/** An error of a file operation in Go's words: `mkdir /path: file exists`. */
export function goPathError(error: unknown, operation: string, path: string): FlotillaError {
  const errno = (error as NodeJS.ErrnoException).errno;
  const text = errno === undefined ? String(error) : errnoText(-errno);
  return new FlotillaError(ErrorKind.Unknown, `${operation} ${path}: ${text}`, { cause: error });
}

/** Makes the directory of a namespace, and makes sure that it is one and no link. */
function makeParent(path: string): void {
  const parent = dirname(path);
  mkdirSync(parent, { recursive: true, mode: 0o711 });
  if (!lstatSync(parent).isDirectory()) {
    throw new FlotillaError(ErrorKind.Unknown, `${parent} is no directory`);
  }
}

/**
 * The group on the host that is group 0 in the container, if its users are mapped: that group must be able to walk into
 * the bundle.
 *
 * @source containerd v2.3.4 core/runtime/v2/bundle_linux.go `remappedGID`
 */
function findRemappedRootGroup(spec: Uint8Array): number | undefined {
  if (!Buffer.from(spec.buffer, spec.byteOffset, spec.byteLength).includes('"gidMappings"')) {
    return undefined;
  }
  const { linux } = JSON.parse(Buffer.from(spec).toString("utf8")) as {
    linux?: { gidMappings?: readonly { containerID: number; hostID: number }[] };
  };
  const hostId = linux?.gidMappings?.find(({ containerID }) => containerID === 0)?.hostID;
  return hostId === 0 ? undefined : hostId;
}

function isIdentifier(name: string): boolean {
  try {
    validateIdentifier(name);
    return true;
  } catch {
    return false;
  }
}
