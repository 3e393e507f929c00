import { chmodSync, existsSync, lchownSync, lstatSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { chmod, lchown, lstat, mkdir, rm, writeFile } from "node:fs/promises";
import { ErrorKind, errorMessage, FlotillaError, failure, systemErrorCode } from "#base/errors.ts";
import { exists } from "#base/exists.ts";
import { mapperControl } from "#linux/device-mapper.ts";
import { enableVerity, hasVerity, setImmutable } from "#linux/file-attributes.ts";
import type { Mount } from "#linux/mount.ts";
import { inUserNamespace } from "#linux/process.ts";
import { metadataPath } from "../../verity/metadata.ts";
import { forgetVerifiedDevice } from "../../verity/verified-device.ts";
import { DirectoryDriver, givingUpFirst } from "../directory-driver.ts";
import type { SnapshotDriver, SnapshotDriverDefinition, SnapshotLocation, SnapshotUsage } from "../driver.ts";
import { findMappedRoot, mappingOptions } from "../overlayfs/id-mapping.ts";
import { hasIdMappedMounts } from "../overlayfs/kernel-support.ts";
import { findQuota } from "../quota.ts";
import { SnapshotDirectories } from "../snapshot-directories.ts";
import type { TreeWorkers } from "../trees.ts";
import { withImage } from "../upper-image.ts";
import { type ErofsConfig, readErofsConfig, requireErofs } from "./config.ts";
import { makeLayer } from "./make-layer.ts";
import { type ErofsLayer, erofsMounts } from "./mounts.ts";
import { erofsPlugin } from "./plugin.ts";

/**
 * Snapshots as EROFS images with overlayfs over them: what is committed is one file that nobody can change.
 *
 * `<root>/snapshots/<id>/` has, of an active snapshot, `fs` and `work` of overlayfs, or `rwlayer.img`, a file system of a limited size with
 * both; of a committed one `layer.erofs`. An image that was made of `fs` has `layer-of-upper` beside it until what it was made of is gone; one
 * without is from a differ. `fsmeta.erofs`, where somebody has made it, describes the images of a snapshot and all its ancestors as
 * one.
 *
 * @source containerd v2.3.4 plugins/snapshots/erofs/erofs.go
 */
export const erofsDriver: SnapshotDriverDefinition = {
  manifest: erofsPlugin,
  open: async ({ root, settings, trees }) => {
    const config = readErofsConfig(root, settings);
    await mkdir(config.root, { recursive: true, mode: 0o700 });
    await requireErofs(config);
    if (config.fsVerity) {
      await requireVerity(config.root);
    }
    return new ErofsDriver(config, await SnapshotDirectories.open(config.root, withChangeableLayers(trees)));
  },
};

class ErofsDriver extends DirectoryDriver implements SnapshotDriver {
  readonly capabilities: readonly string[];
  readonly #config: ErofsConfig;
  readonly #mapsIds = hasIdMappedMounts();

  constructor(config: ErofsConfig, directories: SnapshotDirectories) {
    super(config.root, directories);
    this.#config = config;
    this.capabilities = [
      "only-remap-ids",
      ...(this.#mapsIds ? ["remap-ids"] : []),
      ...(inUserNamespace() ? [] : ["rebase"]),
    ];
  }

  create({ id, parentIds: [parentId], kind, labels }: SnapshotLocation): Promise<void> {
    return this.directories.create(id, async (directory) => {
      const upper = `${directory}/fs`;
      await mkdir(upper);
      await chmod(upper, 0o755);
      const parent = parentId === undefined ? undefined : await this.#requireParent(parentId);
      const owner = (this.#upperBytes(labels) > 0 ? undefined : findMappedRoot(labels)) ?? parent;
      if (owner !== undefined && (owner.uid !== 0 || owner.gid !== 0)) {
        await lchown(upper, owner.uid, owner.gid);
      }
      if (kind === "active") {
        if (this.#upperBytes(labels) === 0) {
          await mkdir(`${directory}/work`, { mode: 0o711 });
        }
        // Tells the EROFS differ whose directory it is.
        await writeFile(`${directory}/.erofslayer`, "", { mode: 0o644 });
      }
      if (parentId !== undefined) {
        await this.#forgetUpper(parentId);
      }
    });
  }

  async mounts({ id, parentIds, kind, labels }: SnapshotLocation): Promise<Mount[]> {
    const directory = this.directories.path(id);
    const upperBytes = this.#upperBytes(labels);
    return erofsMounts({
      kind: kind === "view" ? "view" : "active",
      upper: `${directory}/fs`,
      work: `${directory}/work`,
      image:
        upperBytes === 0
          ? undefined
          : { path: `${directory}/rwlayer.img`, sizeBytes: upperBytes, ...(await ownerOf(`${directory}/fs`)) },
      layers: await this.#layersOf(parentIds),
      mappingOptions: this.#mapsIds ? mappingOptions(labels) : [],
      overlayOptions: this.#config.overlayOptions,
    });
  }

  async seal({ id }: SnapshotLocation): Promise<void> {
    const directory = await this.directories.require(id);
    const { layer, upper, mark, image } = this.#filesOf(id);
    if (!(await exists(layer)) || (await exists(mark))) {
      await writeFile(mark, "", { mode: 0o600 });
      if (await exists(layer)) {
        clearImmutable(layer);
      }
      await ((await exists(image))
        ? withImage({ image, mountPoint: `${directory}/sealing`, fallback: upper }, async (from) => {
            const { uid, gid } = await lstat(from);
            await makeLayer(from, layer);
            // Children ask this directory whom the top belongs to.
            await lchown(upper, uid, gid);
          })
        : makeLayer(upper, layer));
    }
    if (this.#config.fsVerity) {
      enableVerity(layer);
    }
    if (this.#config.immutable) {
      setImmutable(layer, true);
    }
  }

  async measure({ id }: SnapshotLocation): Promise<SnapshotUsage> {
    const { layer, upper, image } = this.#filesOf(id);
    const only = (await exists(layer)) ? layer : (await exists(image)) ? image : undefined;
    return only === undefined
      ? await this.directories.measure(id, upper)
      : { sizeBytes: BigInt((await lstat(only)).blocks) * 512n, inodes: 1n };
  }

  /** Bytes of the file system that a snapshot is written in; 0 for a directory. */
  #upperBytes(labels: Readonly<Record<string, string>>): number {
    return findQuota(labels) ?? this.#config.upperBytes;
  }

  /** The images of the ancestors, nearest first, down to one that is described together with all below it. */
  async #layersOf(parentIds: readonly bigint[]): Promise<ErofsLayer[]> {
    const layers: ErofsLayer[] = [];
    for (const [index, id] of parentIds.entries()) {
      const merged = `${this.directories.path(id)}/fsmeta.erofs`;
      if ((await sizeOf(merged)) > 0) {
        const images = parentIds.slice(index).reverse();
        return [...layers, { source: merged, options: images.map((image) => `device=${this.#filesOf(image).layer}`) }];
      }
      layers.push(await this.#layerOf(id));
    }
    return layers;
  }

  async #layerOf(id: bigint): Promise<ErofsLayer> {
    const { layer } = this.#filesOf(id);
    if (!(await exists(layer))) {
      throw failure(ErrorKind.NotFound, `failed to find valid erofs layer blob: ${layer}`);
    }
    if (this.#config.fsVerity && !hasVerity(layer)) {
      throw new FlotillaError(ErrorKind.FailedPrecondition, `fsverity is not enabled on ${layer}`);
    }
    const { verityMode } = this.#config;
    const metadata = metadataPath(layer);
    const isProtected = verityMode !== "off" && (await exists(metadata));
    if (verityMode === "on" && !isProtected) {
      throw new FlotillaError(
        ErrorKind.Unknown,
        `dm-verity mode is 'on' but .dmverity metadata not found for layer ${layer}. This may happen if the layer was created before dm-verity was enabled. Consider cleaning up existing snapshots and re-pulling the image, or set dmverity_mode to 'auto' to allow layers without dm-verity metadata`,
      );
    }
    return { source: layer, options: isProtected ? [`X-containerd.dmverity=${metadata}`] : [] };
  }

  async #requireParent(id: bigint): Promise<{ uid: number; gid: number }> {
    await this.directories.require(id);
    const { upper, emptied } = this.#filesOf(id);
    // Somebody was interrupted between taking the one away and putting the other there.
    if (!existsSync(upper) && existsSync(emptied)) {
      renameSync(emptied, upper);
    }
    return await lstat(upper);
  }

  /**
   * Frees what the image of a committed snapshot was made of. It is called when there is a child, so that it is committed for sure; two children at
   * a time may call it, so that its few steps are done at once. Nobody waits until all files are deleted.
   */
  async #forgetUpper(id: bigint): Promise<void> {
    const { upper, emptied, image, mark } = this.#filesOf(id);
    if (!existsSync(mark)) {
      return;
    }
    const { uid, gid, mode } = lstatSync(upper);
    mkdirSync(emptied, { recursive: true });
    chmodSync(emptied, mode & 0o7777);
    lchownSync(emptied, uid, gid);
    const discarded = this.directories.hide(id, upper);
    renameSync(emptied, upper);
    rmSync(image, { force: true });
    rmSync(mark, { force: true });
    await this.directories.discard(discarded);
  }

  #filesOf(id: bigint): {
    readonly layer: string;
    readonly upper: string;
    readonly emptied: string;
    readonly image: string;
    readonly mark: string;
  } {
    const directory = this.directories.path(id);
    return {
      layer: `${directory}/layer.erofs`,
      upper: `${directory}/fs`,
      emptied: `${directory}/fs-emptied`,
      image: `${directory}/rwlayer.img`,
      mark: `${directory}/layer-of-upper`,
    };
  }
}

/** Deletes trees whose image may be immutable, or shown by a device that a crash has left. */
function withChangeableLayers(trees: TreeWorkers): TreeWorkers {
  return givingUpFirst(trees, (directory) => {
    const layer = `${directory}/layer.erofs`;
    clearImmutable(layer);
    if (existsSync(layer) && existsSync(metadataPath(layer)) && existsSync(mapperControl)) {
      forgetVerifiedDevice(layer);
    }
  });
}

/** A file that is not there, or cannot have the attribute, can be deleted as it is. */
function clearImmutable(layer: string): void {
  try {
    setImmutable(layer, false);
  } catch (error) {
    if (!["ENOENT", "ENOTTY", "ENOTSUP", "ENOTDIR"].includes(systemErrorCode(error) ?? "")) {
      throw error;
    }
  }
}

/** @source containerd v2.3.4 internal/fsverity/fsverity_linux.go `IsSupported` */
async function requireVerity(root: string): Promise<void> {
  const probe = `${root}/fsverity-check`;
  await rm(probe, { force: true });
  await writeFile(probe, "", { mode: 0o600 });
  try {
    enableVerity(probe);
  } catch (error) {
    throw new FlotillaError(
      ErrorKind.Unknown,
      `failed to check fsverity support on "${root}": ${errorMessage(error)}`,
      { cause: error },
    );
  } finally {
    await rm(probe, { force: true });
  }
}

async function ownerOf(directory: string): Promise<{ readonly user: number; readonly group: number }> {
  const { uid, gid } = await lstat(directory);
  return { user: uid, group: gid };
}

/** @returns -1 when there is nothing. */
async function sizeOf(path: string): Promise<number> {
  try {
    return (await lstat(path)).size;
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") {
      return -1;
    }
    throw error;
  }
}
