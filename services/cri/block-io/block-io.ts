import { quote } from "#base/quote.ts";
import { checkShape, type Shape } from "../cdi/document-shape.ts";
import { parseYaml } from "../cdi/yaml-text.ts";
import { parseQuantity } from "../network/quantity.ts";

interface DeviceNumbers {
  readonly major: number;
  readonly minor: number;
}

/** Limits and weights of block I/O as a specification has them. @source opencontainers/runtime-spec v1.3 config-linux.md "Block IO" */
export interface BlockIo {
  readonly weight?: number;
  readonly weightDevice?: readonly (DeviceNumbers & { readonly weight: number })[];
  readonly throttleReadBpsDevice?: readonly DeviceRate[];
  readonly throttleWriteBpsDevice?: readonly DeviceRate[];
  readonly throttleReadIOPSDevice?: readonly DeviceRate[];
  readonly throttleWriteIOPSDevice?: readonly DeviceRate[];
}

type DeviceRate = DeviceNumbers & { readonly rate: number };

/** Finds the block devices that patterns mean. What can't be used of them is told of. */
export type FindBlockDevices = (
  patterns: readonly string[],
) => Promise<{ readonly devices: readonly DeviceNumbers[]; readonly complaints: readonly string[] }>;

/** @source intel/goresctrl v0.12 pkg/blockio/config.go `DevicesParameters` */
const parameters = { ThrottleReadBps: 0, ThrottleWriteBps: 0, ThrottleReadIOPS: 0, ThrottleWriteIOPS: 0, Weight: 10 };
const weightMax = 1000;

type Parameter = keyof typeof parameters;
type Written = Readonly<Partial<Record<Parameter, string>>> & { readonly Devices?: readonly string[] };

const shape: Shape = {
  fields: {
    Classes: {
      each: {
        list: {
          fields: {
            Devices: { list: "string" },
            ...Object.fromEntries(Object.keys(parameters).map((key) => [key, "string"] as const)),
          },
        },
      },
    },
  },
};

/** Where the values of a parameter for devices stand in a specification. */
const placeOf = {
  ThrottleReadBps: "throttleReadBpsDevice",
  ThrottleWriteBps: "throttleWriteBpsDevice",
  ThrottleReadIOPS: "throttleReadIOPSDevice",
  ThrottleWriteIOPS: "throttleWriteIOPSDevice",
  Weight: "weightDevice",
} as const satisfies Record<Parameter, keyof BlockIo>;

/**
 * Reads a file of classes of block I/O.
 *
 * @returns The classes by their names, and what is wrong with some of them: the rest of such a class counts all the same.
 * @throws {Error} when it is no such file.
 * @source intel/goresctrl v0.12 pkg/blockio/blockio.go `SetConfigFromData`, `devicesParametersToCgBlockIO`
 */
export async function readBlockIoClasses(
  text: string,
  find: FindBlockDevices,
): Promise<{ readonly classes: ReadonlyMap<string, BlockIo>; readonly complaints: readonly string[] }> {
  const document = checkShape(shape, parseYaml(text) ?? {}) as {
    readonly Classes?: Readonly<Record<string, readonly Written[]>>;
  };
  const classes = new Map<string, BlockIo>();
  const complaints: string[] = [];
  for (const [name, sets] of Object.entries(document.Classes ?? {})) {
    const made = new ClassMaking(find, (complaint) => complaints.push(`blockio class ${quote(name)}: ${complaint}`));
    for (const set of sets) {
      await made.add(set);
    }
    classes.set(name, made.result());
  }
  return { classes, complaints };
}

/** A class, set of devices by set of devices. Of two values for one device the later counts. */
class ClassMaking {
  readonly #find: FindBlockDevices;
  readonly #complain: (complaint: string) => void;
  readonly #values = new Map<Parameter, Map<string, DeviceNumbers & { readonly value: number }>>();
  #weight: number | undefined;

  constructor(find: FindBlockDevices, complain: (complaint: string) => void) {
    this.#find = find;
    this.#complain = complain;
  }

  async add({ Devices: patterns, ...written }: Written): Promise<void> {
    const values = (Object.entries(written) as [Parameter, string][]).flatMap(([key, text]) => {
      const value = this.#valueOf(key, text);
      return value === undefined ? [] : [[key, value] as const];
    });
    if (patterns === undefined) {
      this.#addWithoutDevices(values);
      return;
    }
    const { devices, complaints } = await this.#find(patterns);
    complaints.forEach(this.#complain);
    for (const [key, value] of devices.length === 0 ? [] : values) {
      const known = this.#values.get(key) ?? new Map<string, DeviceNumbers & { readonly value: number }>();
      this.#values.set(key, known);
      for (const { major, minor } of devices) {
        known.set(`${major}:${minor}`, { major, minor, value });
      }
    }
  }

  result(): BlockIo {
    const places = [...this.#values].map(([key, values]) => {
      const name = key === "Weight" ? "weight" : "rate";
      return [
        placeOf[key],
        [...values.values()].map(({ major, minor, value }) => ({ major, minor, [name]: value })),
      ] as const;
    });
    return { ...(this.#weight === undefined ? {} : { weight: this.#weight }), ...Object.fromEntries(places) };
  }

  #addWithoutDevices(values: readonly (readonly [Parameter, number])[]): void {
    for (const [key, value] of values) {
      if (key === "Weight") {
        this.#weight = value;
      } else {
        this.#complain(`ignoring throttling (${key}): Devices not listed`);
      }
    }
  }

  #valueOf(key: Parameter, text: string): number | undefined {
    if (text === "") {
      return undefined;
    }
    const value = Number(parseQuantity(text) ?? Number.NaN);
    const fault = Number.isNaN(value)
      ? `syntax error in ${quote(key)} (${quote(text)})`
      : value < parameters[key]
        ? `value of ${quote(key)} (${value}) smaller than minimum (${parameters[key]})`
        : key === "Weight" && value > weightMax
          ? `value of ${quote(key)} (${value}) bigger than maximum (${weightMax})`
          : undefined;
    if (fault !== undefined) {
      this.#complain(fault);
      return undefined;
    }
    return value;
  }
}
