const pattern = /^([+-]?)(\d*)(?:\.(\d*))?(?:([eE][+-]?\d+)|(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?)$/;

const powersOfTen: Readonly<Record<string, number>> = { n: -9, u: -6, m: -3, k: 3, M: 6, G: 9, T: 12, P: 15, E: 18 };
const binary = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
/** Digits that a quantity may have; more is no sensible amount of anything. */
const digitsMax = 32;
const exponentMax = 30;

/**
 * Reads an amount as Kubernetes writes it, such as `10M`, `1.5Gi` or `2e3`, rounded up to a whole number.
 *
 * @returns undefined for what is none.
 * @source k8s.io/apimachinery pkg/api/resource/quantity.go `ParseQuantity`, `Value`
 */
export function parseQuantity(text: string): bigint | undefined {
  const match = pattern.exec(text);
  const [, sign = "", whole = "", fraction = "", exponent, unit = ""] = match ?? [];
  const digits = whole + fraction;
  if (match === null || digits === "" || digits.length > digitsMax) {
    return undefined;
  }
  const power = (exponent === undefined ? (powersOfTen[unit] ?? 0) : Number(exponent.slice(1))) - fraction.length;
  if (Math.abs(power) > exponentMax + digitsMax) {
    return undefined;
  }
  const factor = binary.includes(unit) ? 1024n ** BigInt(binary.indexOf(unit) + 1) : 1n;
  const scaled = BigInt(digits) * factor;
  const value = power >= 0 ? scaled * 10n ** BigInt(power) : roundUp(scaled, 10n ** BigInt(-power));
  return sign === "-" ? -value : value;
}

function roundUp(value: bigint, divisor: bigint): bigint {
  return (value + divisor - 1n) / divisor;
}
