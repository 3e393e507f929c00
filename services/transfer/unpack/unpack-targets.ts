import { ErrorKind, failure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import {
  type ImagePlatform,
  onlyOperatingSystem,
  onlyPlatform,
  type PlatformMatcher,
  parsePlatform,
  platformFrom,
} from "#containerd/platform.ts";
import type { Plugin } from "#gen/containerd/services/introspection/v1/introspection_pb.ts";

const snapshotterType = "io.containerd.snapshotter.v1";
const differType = "io.containerd.differ.v1";
/** @source containerd v2.3.4 defaults/defaults_snapshotter_linux.go, defaults_differ_unix.go */
const defaultSnapshotter = "overlayfs";
const defaultDiffer = "walking";

/** One table of `unpack_config`. */
export interface UnpackRule {
  /** Such as `linux/amd64`. */
  readonly platform: string;
  readonly snapshotter: string;
  /** "" for the differ of the platform. */
  readonly differ: string;
  /** Media type of configurations that this is for; "" for those of images. */
  readonly configType: string;
  /** Media types that count as layers besides those of images. */
  readonly layerTypes: readonly string[];
  /** Whether a snapshotter or differ that is not there is passed over. */
  readonly optional: boolean;
}

/** Where images can be unpacked: a rule whose plugins are there. */
export interface UnpackTarget {
  readonly matcher: PlatformMatcher;
  readonly snapshotter: string;
  readonly differ: string;
  readonly configType: string;
  readonly layerTypes: readonly string[];
  /** Whether the snapshotter wants to know where layers come from. */
  readonly wantsRemoteLabels: boolean;
}

/** The rules where the configuration has none. @source containerd v2.3.4 plugins/transfer/plugin_defaults_linux.go */
export function defaultUnpackRules(host: string): UnpackRule[] {
  const rule = { configType: "", layerTypes: [] };
  const erofs = host.replace("/", "(+erofs)/");
  return [
    { ...rule, platform: host, snapshotter: defaultSnapshotter, differ: defaultDiffer, optional: false },
    { ...rule, platform: erofs, snapshotter: "erofs", differ: "erofs", optional: true },
  ];
}

/**
 * Finds the plugins that rules name.
 *
 * @param plugins - What the process carries that has the snapshotters and differs.
 * @param checkPlatform - Whether images must be for the rule's platform, and not just for its operating system.
 * @throws {@link FlotillaError} `not_found` or `unknown`, in containerd's words, when a rule that is not optional cannot be kept.
 * @source containerd v2.3.4 plugins/transfer/plugin.go `configureUnpackPlatforms`
 */
export function findUnpackTargets(
  rules: readonly UnpackRule[],
  plugins: readonly Plugin[],
  { checkPlatform }: { readonly checkPlatform: boolean },
): UnpackTarget[] {
  const loaded = plugins.filter(({ initErr }) => initErr === undefined);
  const targets: UnpackTarget[] = [];
  for (const rule of rules) {
    const platform = parsePlatform(rule.platform);
    const snapshotter = loaded.find(({ type, id }) => type === snapshotterType && id === rule.snapshotter);
    const differ = findDiffer(rule, platform, loaded);
    if (snapshotter !== undefined && differ !== undefined) {
      targets.push({
        matcher: checkPlatform ? onlyPlatform(platform) : onlyOperatingSystem(platform),
        snapshotter: rule.snapshotter,
        differ,
        configType: rule.configType,
        layerTypes: rule.layerTypes,
        wantsRemoteLabels: snapshotter.exports["enable_remote_snapshot_annotations"] === "true",
      });
    } else if (!rule.optional) {
      throw failure(
        ErrorKind.NotFound,
        snapshotter === undefined
          ? `snapshotter ${quote(rule.snapshotter)} not found`
          : rule.differ === ""
            ? "no matching diff plugins"
            : `failed to get instance for diff plugin ${quote(rule.differ)}`,
      );
    }
  }
  return targets;
}

function findDiffer(rule: UnpackRule, platform: ImagePlatform, loaded: readonly Plugin[]): string | undefined {
  const differs = loaded.filter(({ type }) => type === differType);
  if (rule.differ !== "") {
    return differs.find(({ id }) => id === rule.differ)?.id;
  }
  const fitting = differs.filter(({ platforms }) =>
    platforms.some((shown) => onlyPlatform(platformFrom(shown)).matches(platform)),
  );
  return (fitting.find(({ id }) => id === defaultDiffer) ?? fitting[0])?.id;
}

/**
 * The targets that a client's wishes come to. A wish that names no snapshotter gets the default one where it fits, else the first.
 *
 * @throws {@link FlotillaError} `invalid_argument` when there are wishes and none can be had.
 * @source containerd v2.3.4 core/transfer/local/pull.go `getSupportedPlatform`, core/unpack/unpacker.go `NewUnpacker`
 */
export function chooseUnpackTargets(
  wishes: readonly { readonly platform: ImagePlatform; readonly snapshotter: string }[],
  targets: readonly UnpackTarget[],
): UnpackTarget[] {
  const chosen = wishes.flatMap(({ platform, snapshotter }) => {
    const fitting = targets.filter(({ matcher }) => matcher.matches(platform));
    const target =
      snapshotter === ""
        ? (fitting.find((candidate) => candidate.snapshotter === defaultSnapshotter) ?? fitting[0])
        : fitting.find((candidate) => candidate.snapshotter === snapshotter);
    return target ?? [];
  });
  if (wishes.length > 0 && chosen.length === 0) {
    throw failure(ErrorKind.InvalidArgument, "unable to initialize unpacker: no unpack platforms defined");
  }
  return chosen;
}
