import type { Labels } from "#containerd/labels.ts";
import type { Reference } from "./reference.ts";

/**
 * The label under which a blob remembers from which repositories of a registry it came.
 *
 * @source containerd v2.3.4 core/remotes/docker/handler.go `AppendDistributionSourceLabel`
 */
export function distributionSourceLabel({ host }: Pick<Reference, "host">): string {
  return `containerd.io/distribution.source.${host.replace(/:[0-9]*$/, "").replace(/^\[(.*)\]$/, "$1")}`;
}

/**
 * The value of that label with one repository more: sorted, each once.
 *
 * @param value - What the label has, "" or undefined for nothing.
 */
export function addDistributionSource(
  value: string | undefined,
  { repository }: Pick<Reference, "repository">,
): string {
  const repositories = (value ?? "").split(",").filter((name) => name !== "");
  return [...new Set([...repositories, repository])].sort().join(",");
}

/**
 * The repository of the same registry that a blob is most likely to be mounted from: the one whose name has most parts in
 * common with the target.
 *
 * @param labels - Of the blob, and of what refers to it: a registry that has a manifest has all that it names.
 * @returns undefined when there is none.
 * @source containerd v2.3.4 core/remotes/docker/handler.go `selectRepositoryMountCandidate`
 */
export function findMountSource(target: Reference, ...labels: readonly (Labels | undefined)[]): string | undefined {
  const key = distributionSourceLabel(target);
  const value = labels.map((each) => each?.[key]).find((each) => each !== undefined && each !== "") ?? "";
  const parts = target.repository.split("/");
  let found: string | undefined;
  let commonMost = 0;
  for (const repository of value.split(",").filter((name) => name !== "" && name !== target.repository)) {
    const other = repository.split("/");
    const firstDifference = parts.findIndex((part, index) => part !== other[index]);
    const common = firstDifference < 0 ? parts.length : firstDifference;
    if (common >= commonMost) {
      commonMost = common;
      found = repository;
    }
  }
  return found;
}
