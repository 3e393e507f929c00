/** Lines of a daemon's log that speak of an error or worse, or are no JSON, as processes write them that end by a bug. */
export function faultsIn(log: string): string[] {
  return log
    .split("\n")
    .filter((line) => line !== "")
    .filter((line) => !isHarmless(line));
}

function isHarmless(line: string): boolean {
  try {
    const { level } = JSON.parse(line) as { readonly level?: unknown };
    return ["trace", "debug", "info", "warning"].includes(String(level));
  } catch {
    return false;
  }
}
