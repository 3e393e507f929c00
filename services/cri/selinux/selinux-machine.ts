import { closeSync, constants, openSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { ErrorKind, FlotillaError, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { asByteString, type ByteString, fromByteString, toByteString } from "#linux/bytes.ts";
import { closeFile, OpenFlag, openAt, succeed } from "#linux/file.ts";
import { Errno } from "#linux/libc.ts";
import { readMountInfo } from "#linux/mount-info.ts";
import { setAttributeAt } from "#linux/xattr.ts";
import type { SelinuxPort } from "./selinux.ts";

/** Where labels of containers are written, and the policy with its own. @source opencontainers/selinux v1.15 go-selinux/selinux_linux.go `contextFile`, `selinuxDir` */
const contextFile = "/usr/share/containers/selinux/contexts";
const policyDirectory = "/etc/selinux";
const labelAttribute = asByteString("security.selinux");
/** Directories of the machine that no container may have for itself. @source opencontainers/selinux v1.15 go-selinux/selinux_linux.go `chcon` */
const untouchable = new Set(
  [
    "",
    ..."bin boot dev etc etc/passwd etc/pki etc/shadow home lib lib64 media opt proc root run sbin srv sys tmp usr var var/lib var/log".split(
      " ",
    ),
  ].map((path) => `/${path}`),
);
/** What says that there is nothing below. */
const noDirectory = new Set<number>([Errno.NotDirectory, Errno.Loop, Errno.NoEntry]);
/** What says that there is no label to set. */
const unlabelled = new Set<number>([Errno.NoEntry, Errno.NotSupported]);

/**
 * What this machine does for labels of SELinux.
 *
 * @returns undefined where the kernel has no policy.
 * @source opencontainers/selinux v1.15 go-selinux/selinux_linux.go `getEnabled`
 */
export async function findSelinux(): Promise<SelinuxPort | undefined> {
  const isMounted = (await readMountInfo()).some(({ type }) => type === "selinuxfs");
  if (!isMounted || (await readFile("/proc/self/attr/current", "utf8")).replace(/\0.*$/s, "") === "kernel") {
    return undefined;
  }
  const text =
    (await textOf(contextFile)) ?? (await textOf(`${policyDirectory}/${await policyType()}/contexts/lxc_contexts`));
  return { contexts: parseContexts(text ?? ""), relabel };
}

/** Reads lines such as `process = "system_u:system_r:container_t:s0:c0,c1"`. @source opencontainers/selinux v1.15 go-selinux/selinux_linux.go `loadLabels` */
export function parseContexts(text: string): ReadonlyMap<string, string> {
  const entries = text
    .split("\n")
    .map((line) => /^\s*(?![;#])([^=]*?)\s*=\s*"*(.*?)"*\s*$/.exec(line))
    .flatMap((found) => (found === null ? [] : [[found[1] ?? "", found[2] ?? ""] as const]));
  return new Map(entries);
}

/**
 * Gives a file, or a directory with all below it, a label. Links get it themselves, and are not followed: whoever filled the directory may have made
 * them lead anywhere, and may change it meanwhile. What goes away is passed over, and so are file systems without labels.
 *
 * @throws {@link FlotillaError} `unknown` for directories that are the machine's own.
 * @source opencontainers/selinux v1.15 go-selinux/selinux_linux.go `chcon`; containerd v2.3.4 internal/cri/opts/spec_linux_opts.go `withMounts`
 */
export async function relabel(path: string, label: string): Promise<void> {
  if (untouchable.has(path.replace(/(?<=.)\/$/, "")) || path === process.env["HOME"]) {
    throw refused(path, label, new FlotillaError(ErrorKind.Unknown, `SELinux relabeling of ${path} is not allowed`));
  }
  try {
    const parent = openSync(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY);
    try {
      await relabelEntry(parent, toByteString(basename(path)), Buffer.from(label));
    } finally {
      closeSync(parent);
    }
  } catch (error) {
    throw refused(path, label, error);
  }
}

function refused(path: string, label: string, error: unknown): Error {
  return wrapFailure(error, `relabel ${quote(path)} with ${quote(label)} failed`);
}

/** A directory comes after what lies in it. */
async function relabelEntry(parent: number, name: ByteString, label: Buffer): Promise<void> {
  const opened = openAt(parent, name, OpenFlag.ReadOnly | OpenFlag.Directory | OpenFlag.NoFollow);
  if (opened >= 0) {
    try {
      // Of each directory the names are read elsewhere, so that a large tree does not hold up the process.
      for (const entry of await readdir(`/proc/self/fd/${opened}`, "latin1")) {
        await relabelEntry(opened, asByteString(entry), label);
      }
    } finally {
      closeFile(opened);
    }
  } else if (!noDirectory.has(-opened)) {
    succeed(opened, () => `open ${fromByteString(name)}`);
  }
  const result = setAttributeAt(parent, name, labelAttribute, label);
  if (result < 0 && !unlabelled.has(-result)) {
    succeed(result, () => `lsetxattr ${fromByteString(name)}`);
  }
}

async function policyType(): Promise<string> {
  return /^SELINUXTYPE=(.*)$/m.exec((await textOf(`${policyDirectory}/config`)) ?? "")?.[1]?.trim() ?? "";
}

async function textOf(path: string): Promise<string | undefined> {
  return readFile(path, "utf8").catch(() => undefined);
}
