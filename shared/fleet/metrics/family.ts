/** What Prometheus knows of the values of a family. */
export type FamilyKind = "counter" | "gauge" | "histogram";

/** Values that have a name, as Prometheus reads them. */
export interface MetricFamily {
  readonly name: string;
  /** One line. */
  readonly help: string;
  readonly kind: FamilyKind;
  /** Name and labels of each value, as they are written: `name{label="value"}`. */
  readonly series: readonly string[];
  /** The values, in the order of the series. */
  readonly values: readonly number[];
}

/** Labels by their names. */
export type Labels = Readonly<Record<string, string>>;

/** A family that is being put together. */
export class FamilyBuilder implements MetricFamily {
  readonly name: string;
  readonly help: string;
  readonly kind: FamilyKind;
  readonly series: string[] = [];
  readonly values: number[] = [];

  constructor(kind: FamilyKind, name: string, help: string) {
    this.kind = kind;
    this.name = name;
    this.help = help;
  }

  add(labels: Labels, value: number): this {
    return this.addEncoded(this.name, encodeLabels(labels), value);
  }

  /** @param labels - As {@link encodeLabels} gives them. */
  addEncoded(name: string, labels: string, value: number): this {
    this.series.push(labels === "" ? name : `${name}{${labels}}`);
    this.values.push(value);
    return this;
  }
}

/** Writes labels, by their names, as they stand between the braces. @source Prometheus exposition format 0.0.4, text format details */
export function encodeLabels(labels: Labels): string {
  return Object.keys(labels)
    .sort()
    .map((name) => `${name}="${(labels[name] ?? "").replace(/[\\"\n]/g, escapeCharacter)}"`)
    .join(",");
}

function escapeCharacter(character: string): string {
  return character === "\n" ? "\\n" : `\\${character}`;
}
