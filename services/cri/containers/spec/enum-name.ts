/** The name of a value of an enumeration, or its number where it has none. */
export function enumName(enumeration: Readonly<Record<string, number>>, value: number): string {
  return Object.keys(enumeration).find((name) => enumeration[name] === value) ?? `${value}`;
}
