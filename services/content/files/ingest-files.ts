import { constants } from "node:fs";
import { chmod, mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { ErrorKind, errorMessage, FlotillaError, failure, isFailure, systemErrorCode } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { type Clock, findRfc3339Ns, formatRfc3339, timestampOf } from "#base/times.ts";
import type { DigestAlgorithm } from "#containerd/digest.ts";
import type { IngestFile, IngestFiles, IngestStatus } from "../domain/ports.ts";
import { diskFailure, onDisk } from "./disk-failure.ts";
import { IngestDataFile } from "./ingest-data-file.ts";
import type { ContentLayout, IngestPaths } from "./layout.ts";

/** @source containerd v2.3.4 plugins/content/local/store.go `(*store).writer` */
const directoryMode = 0o755;
const fileMode = 0o666;
/** What the data of an ingest may be opened with; a seal takes the right to write away. */
const writableMode = 0o644;

/** Ingests as directories in containerd's layout. */
export class IngestDirectories implements IngestFiles {
  readonly #layout: ContentLayout;
  readonly #clock: Clock;

  constructor(layout: ContentLayout, clock: Clock) {
    this.#layout = layout;
    this.#clock = clock;
  }

  async open(
    backendRef: string,
    { totalBytes, algorithm }: { readonly totalBytes: bigint; readonly algorithm: DigestAlgorithm },
  ): Promise<IngestFile> {
    const paths = this.#layout.ingest(backendRef);
    const wanted = { backendRef, totalBytes, algorithm };
    try {
      await mkdir(paths.directory, { mode: directoryMode });
    } catch (error) {
      if (systemErrorCode(error) !== "EEXIST") {
        throw diskFailure(error, "make ingest directory");
      }
      const status = await findUsable(paths, wanted);
      if (status !== undefined) {
        return onDisk("resume ingest", this.#openData(paths, wanted, status));
      }
      await this.remove(backendRef);
      await onDisk("make ingest directory", mkdir(paths.directory, { mode: directoryMode }));
    }
    return onDisk("start ingest", this.#start(paths, wanted));
  }

  async getStatus(backendRef: string): Promise<IngestStatus> {
    return readStatus(this.#layout.ingest(backendRef));
  }

  async remove(backendRef: string): Promise<void> {
    const { directory } = this.#layout.ingest(backendRef);
    await onDisk("remove ingest", rm(directory, { recursive: true, force: true }));
  }

  async list(): Promise<string[]> {
    const refs: string[] = [];
    for (const directory of await this.#directories()) {
      const ref = await this.#findRef(directory);
      if (ref !== undefined) {
        refs.push(ref);
      }
    }
    return refs;
  }

  /**
   * Removes the directories that no longer tell which ingest they are of, so that nobody would ever open or remove them.
   * Only right while no ingest is being opened.
   *
   * @returns How many there were.
   */
  async removeDamaged(): Promise<number> {
    let count = 0;
    for (const directory of await this.#directories()) {
      if ((await this.#findRef(directory)) === undefined) {
        await onDisk("remove damaged ingest", rm(directory, { recursive: true, force: true }));
        count += 1;
      }
    }
    return count;
  }

  async #directories(): Promise<string[]> {
    const names = await onDisk("list ingests", readdir(this.#layout.ingests));
    return names.map((name) => `${this.#layout.ingests}/${name}`);
  }

  async #findRef(directory: string): Promise<string | undefined> {
    try {
      const ref = await readText(`${directory}/ref`);
      return this.#layout.ingest(ref).directory === directory ? ref : undefined;
    } catch (error) {
      if (["ENOENT", "ENOTDIR", "EISDIR"].includes(systemErrorCode(error) ?? "")) {
        return undefined;
      }
      throw diskFailure(error, "read ref of ingest");
    }
  }

  async #start(paths: IngestPaths, wanted: WantedIngest): Promise<IngestFile> {
    const now = this.#clock();
    const texts = [
      [paths.ref, wanted.backendRef],
      [paths.startedAt, formatRfc3339(timestampOf(now))],
      [paths.updatedAt, formatRfc3339(timestampOf(now))],
      ...(wanted.totalBytes > 0n ? [[paths.total, String(wanted.totalBytes)] as const] : []),
    ] as const;
    await Promise.all(texts.map(([path, text]) => writeFile(path, text, { mode: fileMode })));
    return this.#openData(paths, wanted, { startedAtNs: now, updatedAtNs: now });
  }

  async #openData(
    paths: IngestPaths,
    { backendRef, algorithm }: WantedIngest,
    times: Pick<IngestStatus, "startedAtNs" | "updatedAtNs">,
  ): Promise<IngestFile> {
    const handle = await openForAppending(paths.data);
    const onClose = (updatedAtNs: bigint): Promise<void> =>
      replaceText(paths.updatedAt, formatRfc3339(timestampOf(updatedAtNs)));
    const file = new IngestDataFile({ handle, backendRef, algorithm, times, clock: this.#clock, onClose });
    try {
      await file.rehash(algorithm);
      return file;
    } catch (error) {
      await handle.close();
      throw error;
    }
  }
}

interface WantedIngest {
  readonly backendRef: string;
  readonly totalBytes: bigint;
  readonly algorithm: DigestAlgorithm;
}

async function findUsable(paths: IngestPaths, wanted: WantedIngest): Promise<IngestStatus | undefined> {
  try {
    const status = await readStatus(paths);
    const isOther = wanted.totalBytes > 0n && status.totalBytes > 0n && wanted.totalBytes !== status.totalBytes;
    return isOther || (await readText(paths.ref)) !== wanted.backendRef ? undefined : status;
  } catch (error) {
    if (isFailure(error, ErrorKind.NotFound, ErrorKind.DataLoss)) {
      return undefined;
    }
    throw diskFailure(error, "read status of ingest");
  }
}

/** @source containerd v2.3.4 plugins/content/local/store.go `(*store).status` */
async function readStatus(paths: IngestPaths): Promise<IngestStatus> {
  const data = await stat(paths.data, { bigint: true }).catch((error: unknown) => throwAbsent(error, paths.data));
  await stat(paths.ref).catch((error: unknown) => throwAbsent(error, paths.ref));
  const startedAtNs = await readTimestamp(paths.startedAt, "startedat");
  const updatedAtNs = await readTimestamp(paths.updatedAt, "updatedat");
  return {
    startedAtNs,
    updatedAtNs: data.mtimeNs > updatedAtNs ? data.mtimeNs : updatedAtNs,
    offsetBytes: data.size,
    totalBytes: await readTotal(paths.total),
  };
}

function throwAbsent(error: unknown, path: string): never {
  throw systemErrorCode(error) === "ENOENT"
    ? failure(ErrorKind.NotFound, `stat ${path}: no such file or directory`, { cause: error })
    : diskFailure(error, "read status of ingest");
}

async function readTimestamp(path: string, name: string): Promise<bigint> {
  try {
    const text = await readText(path);
    const ns = findRfc3339Ns(text);
    if (ns === undefined) {
      throw new FlotillaError(ErrorKind.Unknown, `${quote(text)} is no RFC 3339 time`);
    }
    return ns;
  } catch (error) {
    throw new FlotillaError(ErrorKind.DataLoss, `could not read ${name}: ${errorMessage(error)}`, { cause: error });
  }
}

async function readTotal(path: string): Promise<bigint> {
  const text = await readText(path).catch(() => "");
  return /^\d{1,18}$/.test(text) ? BigInt(text) : 0n;
}

function readText(path: string): Promise<string> {
  return readFile(path, "utf8");
}

/** Replaces a small file so that a crash leaves the old text or the new one. */
async function replaceText(path: string, text: string): Promise<void> {
  await writeFile(`${path}.tmp`, text, { mode: fileMode });
  await rename(`${path}.tmp`, path);
}

async function openForAppending(path: string): ReturnType<typeof open> {
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW;
  try {
    return await open(path, flags, fileMode);
  } catch (error) {
    if (systemErrorCode(error) !== "EACCES") {
      throw error;
    }
    await chmod(path, writableMode);
    return open(path, flags, fileMode);
  }
}
