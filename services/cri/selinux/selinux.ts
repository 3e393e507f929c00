import { randomInt } from "node:crypto";
import { wrapFailure } from "#base/errors.ts";
import type { SELinuxOption } from "#gen/runtime/v1/api_pb.ts";
import { contextOptions, formatContext, levelOf, parseContext, type SecurityContext } from "./security-context.ts";

/** What the machine does for labels. */
export interface SelinuxPort {
  /** The labels that containers begin with, by what they are for: `process`, `file`, `kvm_process`. */
  readonly contexts: ReadonlyMap<string, string>;
  /** Gives a file, or a directory with all below it, a label. File systems without labels are left as they are. */
  relabel(path: string, label: string): Promise<void>;
}

/** The labels of a process and of what it may write to; "" for none. */
export interface Labels {
  readonly process: string;
  readonly mount: string;
}

const noLabels: Labels = { process: "", mount: "" };
/** Most categories that a kernel's policy has. @source opencontainers/selinux v1.15 go-selinux/selinux.go `maxCategory` */
const categoriesMax = 1024;
/** @source containerd v2.3.4 internal/cri/server/helpers_linux.go `vmbasedRuntimes` */
const machineRuntime = "io.containerd.kata";

/**
 * Labels of SELinux for pods and containers. Each pod gets a level that no other has, and its containers share it unless they are to have another; a level
 * is taken as long as a pod or a container has it. Without a port, which means that SELinux is not there or not wanted, there are no labels.
 *
 * @source containerd v2.3.4 internal/cri/store/label/label.go; opencontainers/selinux v1.15 go-selinux
 */
export class Selinux {
  readonly #port: SelinuxPort | undefined;
  readonly #categories: number;
  /** How many have a level. */
  readonly #users = new Map<string, number>();

  /** @param categoryRange - Below how many categories a level is chosen; 0 or less for all. */
  constructor(port: SelinuxPort | undefined, categoryRange: number) {
    this.#port = port;
    this.#categories = categoryRange > 0 ? categoryRange : categoriesMax;
    // What nothing confined may touch.
    this.#users.set(`s0:c${categoriesMax - 2},c${categoriesMax - 1}`, 1);
  }

  /**
   * Labels for a new pod, or for a container of one, which hold their level until the process' label is {@link release released}.
   *
   * @param podLabel - Of the pod's process, which a container without options of its own takes after.
   * @throws {@link FlotillaError} `unknown` in containerd's words, also where there are no labels.
   * @source containerd v2.3.4 internal/cri/server/container_create.go `buildLinuxSpec`; opencontainers/selinux v1.15 go-selinux/label/label_linux.go `InitLabels`
   */
  make(option: SELinuxOption | undefined, podLabel = ""): Labels {
    const own = contextOptions(option);
    const contexts = this.#port?.contexts;
    const mount = contexts?.get("file") ?? "";
    const process = contexts?.get("process") ?? "";
    if (process === "" || mount === "") {
      return { ...noLabels, mount };
    }
    try {
      const wanted = Object.keys(own).length > 0 || podLabel === "" ? own : parseContext(podLabel);
      return this.#labelsOf(parseContext(process), parseContext(mount), wanted);
    } catch (error) {
      throw wrapFailure(error, "failed to init selinux options");
    }
  }

  /** Notes that somebody has a label, who was there before this process. */
  reserve(label: string): void {
    const level = levelOf(label);
    if (level !== "") {
      this.#users.set(level, (this.#users.get(level) ?? 0) + 1);
    }
  }

  /** Gives back the level of a label, once for each that has it. */
  release(label: string): void {
    const level = levelOf(label);
    const users = (this.#users.get(level) ?? 0) - 1;
    if (users > 0) {
      this.#users.set(level, users);
    } else {
      this.#users.delete(level);
    }
  }

  /**
   * The label that a process is to run with: none where it is privileged, another where its runtime is a virtual machine.
   *
   * @source containerd v2.3.4 internal/cri/server/helpers_linux.go `modifyProcessLabel`
   */
  effective(
    label: string,
    { privileged, runtime }: { readonly privileged: boolean; readonly runtime: string },
  ): string {
    if (privileged || label === "") {
      return "";
    }
    const contexts = this.#port?.contexts;
    const machine = contexts?.get("kvm_process") || contexts?.get("process") || "";
    return runtime.includes(machineRuntime) && machine !== ""
      ? formatContext({ ...parseContext(label), type: parseContext(machine).type })
      : label;
  }

  /** Gives files a label, see {@link SelinuxPort.relabel}. Without a label nothing is done. */
  async relabel(path: string, label: string): Promise<void> {
    if (label !== "") {
      await this.#port?.relabel(path, label);
    }
  }

  #labelsOf(process: SecurityContext, mount: SecurityContext, wanted: Partial<SecurityContext>): Labels {
    const level = wanted.level ?? (process.level === "" ? "" : this.#freeLevel());
    const label = formatContext({ ...process, ...wanted, level });
    this.reserve(label);
    const { user = mount.user } = wanted;
    return { process: label, mount: formatContext({ ...mount, user, level }) };
  }

  /** @source opencontainers/selinux v1.15 go-selinux/selinux_linux.go `uniqMcs` */
  #freeLevel(): string {
    for (;;) {
      const [low = 0, high = 0] = [randomInt(this.#categories), randomInt(this.#categories)].sort((a, b) => a - b);
      const level = `s0:c${low},c${high}`;
      if (low !== high && !this.#users.has(level)) {
        return level;
      }
    }
  }
}
