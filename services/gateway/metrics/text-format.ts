import type { MetricFamily } from "#fleet/metrics/family.ts";

/** What the text is. @source Prometheus exposition format 0.0.4 */
export const textContentType = "text/plain; version=0.0.4; charset=utf-8";

/**
 * Writes families as Prometheus reads them, sorted by name. What several processes tell of one family stands together, since a family may be
 * described once only.
 */
export function formatFamilies(families: readonly MetricFamily[]): string {
  const byName = new Map<string, MetricFamily[]>();
  for (const family of families) {
    const others = byName.get(family.name);
    if (others === undefined) {
      byName.set(family.name, [family]);
    } else {
      others.push(family);
    }
  }
  const lines: string[] = [];
  for (const name of [...byName.keys()].sort()) {
    const parts = (byName.get(name) ?? []).filter(({ series }) => series.length > 0);
    const [first] = parts;
    if (first !== undefined) {
      lines.push(`# HELP ${name} ${first.help}`, `# TYPE ${name} ${first.kind}`);
      for (const { series, values } of parts) {
        for (const [index, each] of series.entries()) {
          lines.push(`${each} ${formatValue(values[index] ?? 0)}`);
        }
      }
    }
  }
  return `${lines.join("\n")}\n`;
}

function formatValue(value: number): string {
  switch (value) {
    case Number.POSITIVE_INFINITY:
      return "+Inf";
    case Number.NEGATIVE_INFINITY:
      return "-Inf";
    default:
      return String(value);
  }
}
