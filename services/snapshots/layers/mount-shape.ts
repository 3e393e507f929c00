import { readFileSync } from "node:fs";
import { systemErrorCode } from "#base/errors.ts";
import type { Mount } from "#linux/mount.ts";
import { findOption } from "#linux/mount-options.ts";
import { inUserNamespace } from "#linux/process.ts";
import type { ExtractionTarget } from "./extractor.ts";

/**
 * The directory that a layer can be written into without mounting anything, if the mounts are of such a kind.
 *
 * - One overlay: its upper directory, with overlayfs' marks for removals. Clients that unpack layers side by side give an
 *   overlay that has an upper directory only.
 * - One writable bind mount: its source, which is then the whole file system.
 *
 * @source containerd v2.3.4 core/diff/apply/apply_linux.go `apply`, `getOverlayPath`
 */
export function findDirectTarget(mounts: readonly Mount[]): ExtractionTarget | undefined {
  const [mount] = mounts;
  if (mount === undefined || mounts.length > 1 || (mount.target ?? "") !== "") {
    return undefined;
  }
  if (mount.type === "overlay") {
    const upper = findOption(mount.options, "upperdir") ?? "";
    // The marks are devices, which cannot be made in a user namespace.
    return upper === "" || inUserNamespace()
      ? undefined
      : { root: upper, whiteouts: "overlay", lowers: lowersOf(mount.options) };
  }
  const isPlainBind = mount.type === "bind" && mount.options.every((option) => plainBindOptions.has(option));
  return isPlainBind ? { root: mount.source, whiteouts: "remove", lowers: [] } : undefined;
}

const plainBindOptions = new Set(["rw", "bind", "rbind"]);

function lowersOf(options: readonly string[]): string[] {
  const lowers = findOption(options, "lowerdir") ?? "";
  return lowers === "" ? [] : lowers.split(":");
}

/**
 * The mounts of a snapshot that has no parent yet, as an overlay with an upper directory alone, so that removals are written as
 * overlayfs' marks: they are about what will lie below. Mounts of other kinds stay as they are.
 *
 * @source containerd v2.3.4 core/unpack/unpacker.go `bindToOverlay`
 */
export function asUpperDirectory(mounts: readonly Mount[]): readonly Mount[] {
  const [mount] = mounts;
  if (mount === undefined || mounts.length > 1 || mount.type !== "bind") {
    return mounts;
  }
  const options = mount.options.filter((option) => option !== "rbind");
  return [{ type: "overlay", source: "overlay", options: [...options, `upperdir=${mount.source}`] }];
}

/** The directories that the mounts of a committed snapshot show, topmost first; none if they are of another kind. */
export function lowerDirectoriesOf(mounts: readonly Mount[]): string[] {
  const [mount] = mounts;
  if (mount === undefined || mounts.length > 1) {
    return [];
  }
  return mount.type === "overlay" ? lowersOf(mount.options) : mount.type === "bind" ? [mount.source] : [];
}

/**
 * The upper directory of an overlay whose lower layers are just what the other mounts show, if that is so: what differs
 * between the two then is in that directory.
 *
 * With the feature `index` of overlayfs a change to one name of a file shows under its other names too, which the directory does
 * not tell, so there is no answer then.
 */
export function findChangedDirectory(left: readonly Mount[], right: readonly Mount[]): string | undefined {
  const [before] = left;
  const [after] = right;
  if (before === undefined || after === undefined || left.length > 1 || right.length > 1 || after.type !== "overlay") {
    return undefined;
  }
  const upper = findOption(after.options, "upperdir");
  const shown = before.type === "overlay" ? shownByOverlay(before) : before.source;
  const hasSameLowers = shown !== undefined && shown === findOption(after.options, "lowerdir");
  return hasSameLowers && !keepsIndex(after.options) ? upper : undefined;
}

function shownByOverlay({ options }: Mount): string | undefined {
  return findOption(options, "upperdir") === undefined ? findOption(options, "lowerdir") : undefined;
}

function keepsIndex(options: readonly string[]): boolean {
  if (options.includes("index=off")) {
    return false;
  }
  return options.includes("index=on") || options.some((option) => option.startsWith("nfs_export=")) || indexIsDefault();
}

function indexIsDefault(): boolean {
  try {
    return readFileSync("/sys/module/overlay/parameters/index", "utf8").trim() !== "N";
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") {
      return false;
    }
    throw error;
  }
}
