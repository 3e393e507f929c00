import { createHash } from "node:crypto";
import { errorMessage } from "#base/errors.ts";
import { skipPlugin } from "#fleet/plugin.ts";
import { ProgramFailure, runProgram } from "#linux/program.ts";

/** How long the program may take to print its options. */
const helpMsMax = 30_000;

/** Namespace of names that are URLs. @source RFC 9562 section 6.6 */
const urlNamespace = Buffer.from("6ba7b8119dad11d180b400c04fd430c8", "hex");

/** The environment in which mkfs.erofs is found. */
export function mkfsEnvironment(): NodeJS.ProcessEnv {
  return { ...process.env, PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin` };
}

/**
 * Whether mkfs.erofs makes images of archives (since 1.7).
 *
 * @throws A skip when there is no mkfs.erofs.
 * @source containerd v2.3.4 internal/erofsutils/mount.go `SupportGenerateFromTar`
 */
export async function readsArchives(): Promise<boolean> {
  try {
    const run = { path: "mkfs.erofs", args: ["--help"], environment: mkfsEnvironment(), timeoutMs: helpMsMax };
    const { stdout, stderr } = await runProgram(run);
    return stdout.includes("--tar=") || stderr.includes("--tar=");
  } catch (error) {
    const why =
      error instanceof ProgramFailure && /ENOENT/.test(errorMessage(error))
        ? 'exec: "mkfs.erofs": executable file not found in $PATH'
        : errorMessage(error);
    throw skipPlugin(`failed to check mkfs.erofs availability: failed to run mkfs.erofs --help: ${why}`);
  }
}

/** Options of the configuration, with blocks that every kernel can mount unless they say otherwise. */
export function withBlockSize(options: readonly string[]): readonly string[] {
  return options.some((option) => option.startsWith("-b")) ? options : ["-b4096", ...options];
}

/** The same for the same blob, so that its image is. @source containerd v2.3.4 plugins/diff/erofs/differ.go `Apply` */
export function imageUuid(digest: string): string {
  const hash = createHash("sha1").update(urlNamespace).update(`erofs:blobs/${digest}`).digest().subarray(0, 16);
  hash.writeUInt8((hash.readUInt8(6) & 0x0f) | 0x50, 6);
  hash.writeUInt8((hash.readUInt8(8) & 0x3f) | 0x80, 8);
  return hash.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
