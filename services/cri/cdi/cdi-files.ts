import { open, readdir } from "node:fs/promises";
import { errorMessage, systemErrorCode } from "#base/errors.ts";
import { type CdiDocument, checkDocument } from "./cdi-document.ts";

/** Larger files describe no devices. */
const fileBytesMax = 16 * 1024 * 1024;
/** Files of a directory that are read at most. */
const filesMax = 1000;

/** A file of a directory, with what it says. */
export interface CdiFile {
  readonly path: string;
  readonly document: CdiDocument;
}

interface Known {
  readonly version: string;
  readonly document: CdiDocument | undefined;
  readonly failure: string;
}

/** The files that describe devices. Each is read again when it has changed. */
export class CdiFiles {
  #known = new Map<string, Known>();

  /**
   * What the files say now.
   *
   * @returns Those of each directory, in the order of the directories, and why others were left out, by their path.
   */
  async read(
    directories: readonly string[],
  ): Promise<{ readonly files: readonly (readonly CdiFile[])[]; readonly failures: ReadonlyMap<string, string> }> {
    const known = new Map<string, Known>();
    const failures = new Map<string, string>();
    const files: CdiFile[][] = [];
    for (const directory of directories) {
      const ofDirectory: CdiFile[] = [];
      for (const name of await namesIn(directory, failures)) {
        const path = `${directory}/${name}`;
        const file = await readCdiFile(path, this.#known.get(path));
        known.set(path, file);
        if (file.document === undefined) {
          failures.set(path, file.failure);
        } else {
          ofDirectory.push({ path, document: file.document });
        }
      }
      files.push(ofDirectory);
    }
    this.#known = known;
    return { files, failures };
  }
}

/** @source container-device-interface v1.1 pkg/cdi/spec-dirs.go `scanSpecDirs` */
async function namesIn(directory: string, failures: Map<string, string>): Promise<string[]> {
  try {
    const entries = await readdir(directory, { withFileTypes: true });
    const names = entries.filter((entry) => !entry.isDirectory() && /\.(json|yaml)$/.test(entry.name));
    return names
      .map(({ name }) => name)
      .sort()
      .slice(0, filesMax);
  } catch (error) {
    if (systemErrorCode(error) !== "ENOENT") {
      failures.set(directory, errorMessage(error));
    }
    return [];
  }
}

async function readCdiFile(path: string, known: Known | undefined): Promise<Known> {
  let version = "";
  try {
    await using file = await open(path, "r");
    const { ino, size, mtimeNs, ctimeNs } = await file.stat({ bigint: true });
    version = `${ino} ${size} ${mtimeNs} ${ctimeNs}`;
    if (known?.version === version) {
      return known;
    }
    if (size > fileBytesMax) {
      throw new Error(`larger than ${fileBytesMax} bytes`);
    }
    const text = await file.readFile("utf8");
    // Loaded when there is something to read: most machines have no such file.
    const { parseYaml } = await import("./yaml-text.ts");
    return { version, document: checkDocument(parseYaml(text)), failure: "" };
  } catch (error) {
    return { version, document: undefined, failure: `failed to load CDI Spec ${errorMessage(error)}` };
  }
}
