/** The newest version of the specification of CNI that is spoken here. @source CNI specification, "Version" */
export const versionMax = "1.1.0";

/** Tells which of two versions such as `0.3.1` comes first: negative, 0 or positive. What is missing or no number counts as 0. */
export function compareVersions(left: string, right: string): number {
  const [ours, theirs] = [left, right].map((version) =>
    version.split(".").map((part) => Number.parseInt(part, 10) || 0),
  );
  for (let index = 0; index < 3; index += 1) {
    const difference = (ours?.[index] ?? 0) - (theirs?.[index] ?? 0);
    if (difference !== 0) {
      return difference;
    }
  }
  return 0;
}
