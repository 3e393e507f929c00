/** One value of a cgroup, as it is told of a container. */
export interface CgroupValue {
  /** With its unit, without the `container_` that all have. */
  readonly name: string;
  /** What tells values of one name apart, besides the container. */
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
  /** Where the kernel keeps it. */
  readonly help: string;
}

/** Puts values together. */
export class CgroupValues {
  readonly all: CgroupValue[] = [];

  add(name: string, value: bigint | number, help: string, labels: CgroupValue["labels"] = {}): void {
    this.all.push({ name, value: Number(value), help, labels });
  }
}
