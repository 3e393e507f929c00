import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { readFileIfThere, replaceFile } from "#base/durable-file.ts";
import type { Labels } from "#containerd/labels.ts";
import type { Mount } from "#linux/mount.ts";
import type { Activation } from "./activation.ts";

/** What a directory of mount points holds besides them: the type of each, so that a mount of a crash can be undone. */
const typeSuffix = "-type";

/** A mount point, and the type of what may be mounted there. */
export interface ReservedMountPoint {
  readonly mountPoint: string;
  readonly type: string;
}

/**
 * What the manager keeps in the state directory, which a reboot empties: `t/<place>/` with the mount points of an activation, whose place
 * is its id, and `a/<id>.json` once it is whole. Places that are no ids are of mounts that end with the process.
 *
 * @source containerd v2.3.4 core/mount/manager/manager.go (`t/<id>/<n>` and `<n>-type`)
 */
export class ActivationFiles {
  readonly #targets: string;
  readonly #records: string;

  private constructor(directory: string) {
    this.#targets = `${directory}/t`;
    this.#records = `${directory}/a`;
  }

  /** Makes the directories, for root alone. */
  static async open(directory: string): Promise<ActivationFiles> {
    const files = new ActivationFiles(directory);
    for (const path of [directory, files.#targets, files.#records]) {
      await mkdir(path, { recursive: true, mode: 0o700 });
    }
    return files;
  }

  /** Directory in which all mount points are. */
  get targets(): string {
    return this.#targets;
  }

  /** Makes the directory for the mount points of an activation. */
  async makeTarget(place: string): Promise<void> {
    await mkdir(`${this.#targets}/${place}`, { mode: 0o700 });
  }

  /**
   * Reserves a mount point. Its name counts down, so that those of an activation are undone in the order of their names.
   *
   * @param position - From `count` for the first mount down to 1.
   */
  async reserve(
    place: string,
    { position, count, type }: { readonly position: number; readonly count: number; readonly type: string },
  ): Promise<string> {
    const name = String(position).padStart(count > 100 ? 3 : count > 10 ? 2 : 1, "0");
    const mountPoint = `${this.#targets}/${place}/${name}`;
    await writeFile(`${mountPoint}${typeSuffix}`, type, { mode: 0o600 });
    return mountPoint;
  }

  /** The mount points of an activation in the order in which they are undone; none when it has no directory. */
  async listMountPoints(place: string): Promise<ReservedMountPoint[]> {
    const directory = `${this.#targets}/${place}`;
    const names = await readdir(directory).catch(() => []);
    const reserved: ReservedMountPoint[] = [];
    for (const name of names.filter((candidate) => candidate.endsWith(typeSuffix)).sort()) {
      const type = (await readFileIfThere(`${directory}/${name}`)) ?? "";
      reserved.push({ mountPoint: `${directory}/${name.slice(0, -typeSuffix.length)}`, type });
    }
    return reserved;
  }

  /** Says that an activation is whole. */
  async write(activation: Activation): Promise<void> {
    await replaceFile(`${this.#records}/${activation.id}.json`, encode(activation), { mode: 0o600 });
  }

  /** Forgets an activation whose mounts are off. */
  async remove(place: string): Promise<void> {
    await rm(`${this.#records}/${place}.json`, { force: true });
    // Nothing is deleted through a mount that is still there: the directory is then busy, and not empty.
    await rm(`${this.#targets}/${place}`, { recursive: true, force: true });
  }

  /** All activations that are whole, and the places of all that left something. */
  async list(): Promise<{ readonly whole: readonly Activation[]; readonly places: readonly string[] }> {
    const whole: Activation[] = [];
    const places = new Set(await readdir(this.#targets));
    for (const name of await readdir(this.#records)) {
      const place = /^(\d+)\.json$/.exec(name)?.[1];
      const text = place === undefined ? undefined : await readFileIfThere(`${this.#records}/${name}`);
      if (place !== undefined && text !== undefined) {
        whole.push(decode(BigInt(place), text));
        places.add(place);
      }
    }
    return { whole, places: [...places] };
  }
}

/** As it is written down. */
interface StoredActivation {
  readonly namespace: string;
  readonly name: string;
  readonly active: readonly { readonly mount: Mount; readonly mountPoint: string; readonly mountedAtNs: string }[];
  readonly system: readonly Mount[];
  readonly labels: Labels;
  readonly call?: string | undefined;
}

function encode({ namespace, name, active, system, labels, call }: Activation): string {
  const stored: StoredActivation = {
    namespace,
    name,
    active: active.map((mount) => ({ ...mount, mountedAtNs: String(mount.mountedAtNs) })),
    system,
    labels,
    call,
  };
  return JSON.stringify(stored);
}

/** The file is our own, written whole and readable by root alone. */
function decode(id: bigint, text: string): Activation {
  const stored = JSON.parse(text) as StoredActivation;
  return {
    ...stored,
    id,
    call: stored.call,
    active: stored.active.map((mount) => ({ ...mount, mountedAtNs: BigInt(mount.mountedAtNs) })),
  };
}
