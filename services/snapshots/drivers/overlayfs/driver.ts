import { chmod, lchown, lstat, mkdir } from "node:fs/promises";
import { ErrorKind, failure, systemErrorCode } from "#base/errors.ts";
import type { Mount } from "#linux/mount.ts";
import { inUserNamespace } from "#linux/process.ts";
import type { SnapshotDriver, SnapshotDriverDefinition, SnapshotLocation, SnapshotUsage } from "../driver.ts";
import { SnapshotDirectories } from "../snapshot-directories.ts";
import { type OverlayConfig, parseOverlayConfig } from "./config.ts";
import { findMappedRoot, mappingOptions } from "./id-mapping.ts";
import { hasIdMappedMounts, hasIndex, needsUserXattr, requireOverlay } from "./kernel-support.ts";
import { overlayMounts } from "./mounts.ts";
import { overlayPlugin } from "./plugin.ts";

/**
 * Snapshots as layers of overlayfs: a snapshot holds what it changes of its parents.
 *
 * `<root>/snapshots/<id>/fs` holds the files, and `<id>/work` is the scratch directory of overlayfs, for active snapshots.
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
    return new OverlayDriver(config, directories, options);
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

class OverlayDriver implements SnapshotDriver {
  readonly root: string;
  readonly capabilities: readonly string[];
  readonly #directories: SnapshotDirectories;
  readonly #overlayOptions: readonly string[];
  readonly #mapsIds: boolean;

  constructor(config: OverlayConfig, directories: SnapshotDirectories, options: readonly string[]) {
    this.root = config.root;
    this.#directories = directories;
    this.#overlayOptions = options;
    this.#mapsIds = hasIdMappedMounts();
    this.capabilities = [
      ...(this.#mapsIds ? ["remap-ids"] : []),
      ...(config.slowChown ? [] : ["only-remap-ids"]),
      // Turning whiteouts of one form into those of the other takes mknod, which is refused in a user namespace.
      ...(inUserNamespace() ? [] : ["rebase"]),
    ];
  }

  listIds(): Promise<bigint[]> {
    return this.#directories.list();
  }

  create({ id, parentIds: [parentId], kind, labels }: SnapshotLocation): Promise<void> {
    return this.#directories.create(id, async (directory) => {
      const files = `${directory}/fs`;
      await mkdir(files);
      // Not by mkdir: the process's umask must not show in containers.
      await chmod(files, 0o755);
      const owner = findMappedRoot(labels) ?? (parentId === undefined ? undefined : await this.#ownerOf(parentId));
      if (owner !== undefined && (owner.uid !== 0 || owner.gid !== 0)) {
        await lchown(files, owner.uid, owner.gid);
      }
      if (kind === "active") {
        await mkdir(`${directory}/work`, { mode: 0o711 });
      }
    });
  }

  async mounts({ id, parentIds, kind, labels }: SnapshotLocation): Promise<Mount[]> {
    return overlayMounts({
      kind,
      upper: this.#filesOf(id),
      work: `${this.#directories.path(id)}/work`,
      parents: parentIds.map((parentId) => this.#filesOf(parentId)),
      mappingOptions: this.#mapsIds ? mappingOptions(labels) : [],
      overlayOptions: this.#overlayOptions,
    });
  }

  async measure({ id }: SnapshotLocation): Promise<SnapshotUsage> {
    return await this.#directories.measure(id, this.#filesOf(id));
  }

  putAside(ids: readonly bigint[]): Promise<string> {
    return this.#directories.putAside(ids);
  }

  remove(ids: readonly bigint[]): Promise<void> {
    return this.#directories.remove(ids);
  }

  async #ownerOf(parentId: bigint): Promise<{ uid: number; gid: number }> {
    try {
      return await lstat(this.#filesOf(parentId));
    } catch (error) {
      if (systemErrorCode(error) === "ENOENT") {
        throw failure(ErrorKind.NotFound, `failed to stat parent: directory of snapshot ${parentId}`, { cause: error });
      }
      throw error;
    }
  }

  #filesOf(id: bigint): string {
    return `${this.#directories.path(id)}/fs`;
  }
}
