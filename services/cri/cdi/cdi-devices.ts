import { ErrorKind, FlotillaError, wrapFailure } from "#base/errors.ts";
import type { Logger } from "#fleet/log.ts";
import type { OciSpec } from "../containers/spec/oci-spec.ts";
import { applyEdits, type DeviceFinder } from "./apply-edits.ts";
import type { ContainerEdits } from "./cdi-document.ts";
import { type CdiFile, CdiFiles } from "./cdi-files.ts";

/** What one device changes, and the file that describes it. */
interface Described {
  readonly file: CdiFile;
  readonly edits: ContainerEdits;
}

/** Devices of the Container Device Interface, which vendors describe in files. */
export class CdiDevices {
  readonly #files = new CdiFiles();
  readonly #directories: () => readonly string[];
  readonly #findDevice: DeviceFinder;
  readonly #log: Logger;

  /** @param directories - Where the files are; what stands in a later one counts more. */
  constructor(directories: () => readonly string[], findDevice: DeviceFinder, log: Logger) {
    this.#directories = directories;
    this.#findDevice = findDevice;
    this.#log = log;
  }

  /**
   * Gives devices to a container.
   *
   * @param spec - Is changed.
   * @param names - Whole names, `vendor/class=device`.
   * @throws {@link FlotillaError} `unknown` when one is not described, is described twice, or is not there.
   * @source containerd v2.3.4 pkg/cdi/oci_opt.go `WithCDIDevices`; container-device-interface v1.1 pkg/cdi/cache.go `InjectDevices`
   */
  async inject(spec: OciSpec, names: readonly string[]): Promise<void> {
    if (names.length === 0) {
      return;
    }
    const { files, failures } = await this.#files.read(this.#directories());
    for (const [path, reason] of failures) {
      this.#log.warn({ path, reason }, "a description of devices is left out");
    }
    const known = describedDevices(files);
    const unknown = names.filter((name) => known.get(name) === undefined);
    if (unknown.length > 0) {
      throw new FlotillaError(
        ErrorKind.Unknown,
        `CDI device injection failed: unresolvable CDI devices ${unknown.join(", ")}`,
      );
    }
    const chosen = names.map((name) => known.get(name)).filter((device) => device !== undefined);
    const seen = new Set<CdiFile>();
    const edits = chosen.flatMap(({ file, edits: own }) => {
      const common = seen.has(file) ? [] : [file.document.containerEdits];
      seen.add(file);
      return [...common, own];
    });
    try {
      await applyEdits(spec, edits, this.#findDevice);
    } catch (error) {
      throw wrapFailure(error, "CDI device injection failed: failed to inject devices");
    }
  }
}

/**
 * All devices by their whole names. One that two files of the same directory describe is none.
 *
 * @source container-device-interface v1.1 pkg/cdi/cache.go `refresh`
 */
function describedDevices(files: readonly (readonly CdiFile[])[]): ReadonlyMap<string, Described | undefined> {
  const all = new Map<string, Described | undefined>();
  const conflicts = new Set<string>();
  for (const ofDirectory of files) {
    const here = new Set<string>();
    for (const file of ofDirectory) {
      for (const { name, containerEdits } of file.document.devices) {
        const whole = `${file.document.kind}=${name}`;
        if (here.has(whole)) {
          conflicts.add(whole);
        }
        here.add(whole);
        all.set(whole, { file, edits: containerEdits });
      }
    }
  }
  for (const conflict of conflicts) {
    all.set(conflict, undefined);
  }
  return all;
}
