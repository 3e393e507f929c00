import { ErrorKind, FlotillaError } from "#base/errors.ts";

/** Label by which clients ask for a snapshot with mapped users. @source containerd v2.3.4 core/snapshots/snapshotter.go */
export const uidMappingLabel = "containerd.io/snapshot/uidmapping";
/** Label by which clients ask for a snapshot with mapped groups. @source containerd v2.3.4 core/snapshots/snapshotter.go */
export const gidMappingLabel = "containerd.io/snapshot/gidmapping";

const idInvalid = 2 ** 32 - 1;

interface IdRange {
  readonly containerId: number;
  readonly hostId: number;
  readonly size: number;
}

/**
 * The owner on the host of what belongs to root in the container, by the labels of a snapshot.
 *
 * @returns undefined when no label asks for a mapping.
 * @throws {@link FlotillaError} `unknown`, as containerd has it, for a label that cannot be read or that leaves root without a
 *   host id.
 * @source containerd v2.3.4 internal/userns/idmap.go
 */
export function findMappedRoot(labels: Readonly<Record<string, string>>): { uid: number; gid: number } | undefined {
  const uidMap = labels[uidMappingLabel];
  const gidMap = labels[gidMappingLabel];
  if (uidMap === undefined && gidMap === undefined) {
    return undefined;
  }
  const context = "failed to unmarshal snapshot ID mapped labels";
  const uidRanges = parseRanges(uidMap ?? "", context);
  const gidRanges = parseRanges(gidMap ?? "", context);
  return { uid: mapRoot(uidRanges), gid: mapRoot(gidRanges) };
}

function parseRanges(map: string, context: string): IdRange[] {
  if (map === "") {
    return [];
  }
  return map.split(",").map((range) => {
    const [containerId, hostId, size] = /^(-?\d+):(-?\d+):(-?\d+)$/.exec(range)?.slice(1).map(Number) ?? [];
    if (containerId === undefined || hostId === undefined || size === undefined) {
      throw new FlotillaError(ErrorKind.Unknown, `${context}: input value ${range} unparsable`);
    }
    if ([containerId, hostId, size].some((number) => number < 0 || number >= idInvalid)) {
      throw new FlotillaError(ErrorKind.Unknown, `${context}: invalid mapping "${range}"`);
    }
    return { containerId, hostId, size };
  });
}

/** Without any range ids stay as they are. */
function mapRoot(ranges: readonly IdRange[]): number {
  if (ranges.length === 0) {
    return 0;
  }
  const range = ranges.find(({ containerId, size }) => containerId === 0 && size > 0);
  if (range === undefined) {
    throw new FlotillaError(
      ErrorKind.Unknown,
      "failed to find root pair: container ID 0 cannot be mapped to a host ID",
    );
  }
  return range.hostId;
}

/** The options of a mount by which its ids are mapped, as the labels of a snapshot ask for. */
export function mappingOptions(labels: Readonly<Record<string, string>>): string[] {
  const options: string[] = [];
  for (const [option, label] of [
    ["uidmap", uidMappingLabel],
    ["gidmap", gidMappingLabel],
  ] as const) {
    const map = labels[label];
    if (map !== undefined) {
      options.push(`${option}=${map}`);
    }
  }
  return options;
}
