import { chmodSync, lchownSync, lstatSync, mkdirSync, rmSync } from "node:fs";
import { lstat, mkdir, rename } from "node:fs/promises";
import { ErrorKind, failure, systemErrorCode } from "#base/errors.ts";
import { exists } from "#base/exists.ts";
import type { Mount } from "#linux/mount.ts";
import { inUserNamespace } from "#linux/process.ts";
import { hasProjectQuota, joinProject, limitProject } from "#linux/project-quota.ts";
import { DirectoryDriver } from "../directory-driver.ts";
import type { SnapshotDriver, SnapshotDriverDefinition, SnapshotLocation, SnapshotUsage } from "../driver.ts";
import { findQuota } from "../quota.ts";
import { SnapshotDirectories } from "../snapshot-directories.ts";
import type { TreeWorkers } from "../trees.ts";
import { type UpperImage, withImage } from "../upper-image.ts";
import { type OverlayConfig, parseOverlayConfig } from "./config.ts";
import { findMappedRoot, mappingOptions } from "./id-mapping.ts";
import { hasIdMappedMounts, hasIndex, needsUserXattr, requireOverlay } from "./kernel-support.ts";
import { overlayMounts } from "./mounts.ts";
import { overlayPlugin } from "./plugin.ts";

/**
 * Snapshots as layers of overlayfs: a snapshot holds what it changes of its parents.
 *
 * `<root>/snapshots/<id>/fs` holds the files, and `<id>/work` is the scratch directory of overlayfs, for active snapshots. A snapshot with a
 * limit belongs to a project of the file system, where it has quotas for them; elsewhere it is written in `<id>/rwlayer.img`, a file
 * system of that size, whose files go to `fs` before it is committed.
 *
 * @source containerd v2.3.4 plugins/snapshots/overlay/overlay.go
 */
export const overlayDriver: SnapshotDriverDefinition = {
  manifest: overlayPlugin,
  open: async ({ root, settings, trees }) => {
    const config = parseOverlayConfig(root, settings);
    const directories = await SnapshotDirectories.open(config.root, trees);
    const options = await overlayOptions(config);
    await requireOverlay(config.root, options);
    return new OverlayDriver(config, { directories, trees, options, hasQuota: hasProjectQuota(config.root) });
  },
};

/** The options of every overlay mount: those of the configuration, then what this kernel needs. */
async function overlayOptions({ root, mountOptions }: OverlayConfig): Promise<string[]> {
  const options = [...mountOptions];
  if (!options.includes("userxattr") && (await needsUserXattr(root))) {
    options.push("userxattr");
  }
  if (!options.some((option) => option.startsWith("index=")) && hasIndex()) {
    options.push("index=off");
  }
  return options;
}

class OverlayDriver extends DirectoryDriver implements SnapshotDriver {
  readonly capabilities: readonly string[];
  readonly #trees: TreeWorkers;
  readonly #overlayOptions: readonly string[];
  /** Whether the file system limits projects. */
  readonly #hasQuota: boolean;
  readonly #mapsIds: boolean;

  constructor(
    config: OverlayConfig,
    parts: {
      readonly directories: SnapshotDirectories;
      readonly trees: TreeWorkers;
      readonly options: readonly string[];
      readonly hasQuota: boolean;
    },
  ) {
    super(config.root, parts.directories);
    this.#trees = parts.trees;
    this.#overlayOptions = parts.options;
    this.#hasQuota = parts.hasQuota;
    this.#mapsIds = hasIdMappedMounts();
    this.capabilities = [
      ...(this.#mapsIds ? ["remap-ids"] : []),
      ...(config.slowChown ? [] : ["only-remap-ids"]),
      // Turning whiteouts of one form into those of the other takes mknod, which is refused in a user namespace.
      ...(inUserNamespace() ? [] : ["rebase"]),
    ];
  }

  create({ id, parentIds: [parentId], kind, labels }: SnapshotLocation): Promise<void> {
    return this.directories.create(id, (directory) => {
      const files = `${directory}/fs`;
      mkdirSync(files);
      // Not by mkdir: the process's umask must not show in containers.
      chmodSync(files, 0o755);
      const owner = findMappedRoot(labels) ?? (parentId === undefined ? undefined : this.#ownerOf(parentId));
      if (owner !== undefined && (owner.uid !== 0 || owner.gid !== 0)) {
        lchownSync(files, owner.uid, owner.gid);
      }
      if (kind === "active") {
        mkdirSync(`${directory}/work`, { mode: 0o711 });
        this.#limit(directory, id, findQuota(labels));
      }
      if (parentId !== undefined) {
        this.#forgetImage(parentId);
      }
    });
  }

  async mounts({ id, parentIds, kind, labels }: SnapshotLocation): Promise<Mount[]> {
    return overlayMounts({
      kind,
      upper: this.#filesOf(id),
      work: `${this.directories.path(id)}/work`,
      image: await this.#imageOf(id, kind, labels),
      parents: parentIds.map((parentId) => this.#filesOf(parentId)),
      mappingOptions: this.#mapsIds ? mappingOptions(labels) : [],
      overlayOptions: this.#overlayOptions,
    });
  }

  async seal({ id }: SnapshotLocation): Promise<void> {
    const directory = await this.directories.require(id);
    const image = imagePath(directory);
    if (!(await exists(image))) {
      return;
    }
    const files = `${directory}/fs`;
    const [made, old] = [`${directory}/fs-of-image`, `${directory}/fs-before`];
    await this.#trees.remove([made, old]);
    await mkdir(made);
    await withImage({ image, mountPoint: `${directory}/sealing`, fallback: files }, (from) =>
      this.#trees.copy(from, made),
    );
    await rename(files, old);
    await rename(made, files);
    await this.#trees.remove([old]);
  }

  async measure({ id, labels }: SnapshotLocation): Promise<SnapshotUsage> {
    const usage = await this.directories.measure(id, this.#filesOf(id));
    if (findQuota(labels) === undefined || this.#hasQuota || usage.inodes > 1n) {
      return usage;
    }
    const image = imagePath(this.directories.path(id));
    return (await exists(image)) ? { sizeBytes: BigInt((await lstat(image)).blocks) * 512n, inodes: 1n } : usage;
  }

  measuredDirectory({ id, labels }: SnapshotLocation): string | undefined {
    return findQuota(labels) === undefined ? this.#filesOf(id) : undefined;
  }

  #ownerOf(parentId: bigint): { uid: number; gid: number } {
    try {
      return lstatSync(this.#filesOf(parentId));
    } catch (error) {
      if (systemErrorCode(error) === "ENOENT") {
        throw failure(ErrorKind.NotFound, `failed to stat parent: directory of snapshot ${parentId}`, { cause: error });
      }
      throw error;
    }
  }

  /** Keeps what is in a new directory to a limit, where the file system can. */
  #limit(directory: string, id: bigint, limitBytes: number | undefined): void {
    if (limitBytes !== undefined && this.#hasQuota) {
      const project = projectBase + Number(id % BigInt(projectBase));
      for (const part of ["fs", "work"]) {
        joinProject(`${directory}/${part}`, project);
      }
      limitProject(directory, project, limitBytes);
    }
  }

  /** The file system that a snapshot is written in because of its limit. */
  async #imageOf(
    id: bigint,
    kind: SnapshotLocation["kind"],
    labels: SnapshotLocation["labels"],
  ): Promise<UpperImage | undefined> {
    const sizeBytes = kind === "active" && !this.#hasQuota ? findQuota(labels) : undefined;
    if (sizeBytes === undefined) {
      return undefined;
    }
    const { uid, gid } = await lstat(this.#filesOf(id));
    return { path: imagePath(this.directories.path(id)), sizeBytes, user: uid, group: gid };
  }

  /** Frees the file system that a snapshot was written in. It is called when there is a child, so that it is committed for sure. */
  #forgetImage(id: bigint): void {
    rmSync(imagePath(this.directories.path(id)), { force: true });
  }

  #filesOf(id: bigint): string {
    return `${this.directories.path(id)}/fs`;
  }
}

/** Projects of snapshots have numbers from here up to twice that, by the id of the snapshot. */
const projectBase = 1 << 30;

function imagePath(directory: string): string {
  return `${directory}/rwlayer.img`;
}
