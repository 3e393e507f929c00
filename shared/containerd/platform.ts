import { ErrorKind, failure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";

/** What an image runs on, in the words of the OCI image specification. "" for what is not said. */
export interface ImagePlatform {
  readonly os: string;
  readonly architecture: string;
  readonly variant: string;
  readonly osVersion: string;
  /** Sorted and without duplicates once {@link normalizePlatform} has seen them. */
  readonly osFeatures: readonly string[];
}

/** Decides which platforms are wanted, and which of two is wanted more. */
export interface PlatformMatcher {
  matches(platform: ImagePlatform): boolean;
  /** Whether the first comes before the second. */
  isLess(first: ImagePlatform, second: ImagePlatform): boolean;
}

/** Turns a partial platform, such as one from JSON, into a whole one. What is no text counts as not said. */
export function platformFrom(partial: { readonly [key in keyof ImagePlatform]?: unknown }): ImagePlatform {
  const text = (value: unknown): string => (typeof value === "string" ? value : "");
  const { osFeatures } = partial;
  return {
    os: text(partial.os),
    architecture: text(partial.architecture),
    variant: text(partial.variant),
    osVersion: text(partial.osVersion),
    osFeatures: Array.isArray(osFeatures) ? osFeatures.filter((feature) => typeof feature === "string") : [],
  };
}

/** Writes a platform as matchers compare it. @source containerd/platforms v1 platforms.go `Normalize`, database.go */
export function normalizePlatform(platform: ImagePlatform): ImagePlatform {
  const os = platform.os === "" ? process.platform : platform.os.toLowerCase();
  return {
    os: os === "macos" ? "darwin" : os,
    ...normalizeArchitecture(platform.architecture.toLowerCase(), platform.variant.toLowerCase()),
    osVersion: platform.osVersion,
    osFeatures: [...new Set(platform.osFeatures)].sort(),
  };
}

function normalizeArchitecture(architecture: string, variant: string): Pick<ImagePlatform, "architecture" | "variant"> {
  switch (architecture) {
    case "i386":
      return { architecture: "386", variant: "" };
    case "x86_64":
    case "x86-64":
    case "amd64":
      return { architecture: "amd64", variant: variant === "v1" ? "" : variant };
    case "aarch64":
    case "arm64":
      return { architecture: "arm64", variant: armVariants[`64 ${variant}`] ?? variant };
    case "armhf":
      return { architecture: "arm", variant: "v7" };
    case "armel":
      return { architecture: "arm", variant: "v6" };
    case "arm":
      return { architecture, variant: armVariants[`32 ${variant}`] ?? variant };
    default:
      return { architecture, variant };
  }
}

const armVariants: Readonly<Record<string, string>> = {
  "64 8": "",
  "64 v8": "",
  "64 v8.0": "",
  "64 9": "v9",
  "64 9.0": "v9",
  "64 v9.0": "v9",
  "32 ": "v7",
  "32 7": "v7",
  "32 5": "v5",
  "32 6": "v6",
  "32 8": "v8",
};

const componentPattern = /^[A-Za-z0-9_.-]+$/;
const osPattern = /^([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.%-]*)((?:\+[A-Za-z0-9_.%-]+)*)\))?$/;

/**
 * Reads a platform as configuration names it: `linux/amd64`, `linux/arm/v7`, `linux(+erofs)/amd64`. The operating system
 * and the architecture both have to be there.
 *
 * @throws {@link FlotillaError} `invalid_argument`
 * @source containerd/platforms v1 platforms.go `Parse`
 */
export function parsePlatform(specifier: string): ImagePlatform {
  const [first = "", architecture, variant = "", ...rest] = specifier.split("/");
  const os = osPattern.exec(first);
  if (os === null || architecture === undefined || rest.length > 0) {
    throw failure(ErrorKind.InvalidArgument, `${quote(specifier)}: cannot parse platform specifier`);
  }
  for (const component of variant === "" ? [architecture] : [architecture, variant]) {
    if (!componentPattern.test(component)) {
      throw failure(ErrorKind.InvalidArgument, `${quote(component)} is an invalid component of ${quote(specifier)}`);
    }
  }
  const [, name = "", osVersion = "", features = ""] = os;
  return normalizePlatform({
    os: name,
    architecture,
    variant,
    osVersion: decodeOption(osVersion),
    osFeatures: features
      .split("+")
      .filter((feature) => feature !== "")
      .map(decodeOption),
  });
}

function decodeOption(text: string): string {
  return text.replace(/%([0-9A-Fa-f]{2})/g, (_all, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}

/** Writes a platform for people. @source containerd/platforms v1 platforms.go `FormatAll` */
export function formatPlatform({ os, architecture, variant, osVersion, osFeatures }: ImagePlatform): string {
  if (os === "") {
    return "unknown";
  }
  const features = osFeatures.map((feature) => `+${feature}`).join("");
  const details = osVersion === "" && features === "" ? "" : `(${osVersion}${features})`;
  return [`${os}${details}`, architecture, variant].filter((part) => part !== "").join("/");
}

/** Every platform, in the order that there is. */
export const anyPlatform: PlatformMatcher = { matches: () => true, isLess: () => false };

/** The given platforms, those that come first before the others. @source containerd/platforms v1 compare.go `Ordered` */
export function orderedPlatforms(platforms: readonly ImagePlatform[]): PlatformMatcher {
  const wanted = platforms.map(normalizePlatform);
  const isLess = (first: ImagePlatform, second: ImagePlatform): boolean => {
    for (const platform of wanted) {
      const [one, other] = [isMatch(platform, first), isMatch(platform, second)];
      if (one || other) {
        return other ? one && first.osFeatures.length > second.osFeatures.length : true;
      }
    }
    return first.osFeatures.length > 0 || second.osFeatures.length > 0
      ? isLess({ ...first, osFeatures: [] }, { ...second, osFeatures: [] })
      : false;
  };
  return { matches: (platform) => wanted.some((one) => isMatch(one, platform)), isLess };
}

/** A platform and what else runs on it. @source containerd/platforms v1 compare.go `Only` */
export function onlyPlatform(platform: ImagePlatform): PlatformMatcher {
  return orderedPlatforms(compatiblePlatforms(normalizePlatform(platform)));
}

/** Whatever has the operating system of a platform, its architecture first. @source containerd/platforms v1 compare.go `OnlyOS` */
export function onlyOperatingSystem(platform: ImagePlatform): PlatformMatcher {
  const wanted = normalizePlatform(platform);
  const order = orderedPlatforms([wanted]);
  const matches = (other: ImagePlatform): boolean => {
    const { os, osFeatures } = normalizePlatform(other);
    return os === wanted.os && osFeatures.every((feature) => wanted.osFeatures.includes(feature));
  };
  return {
    matches,
    isLess: (first, second) => matches(first) && (!matches(second) || order.isLess(first, second)),
  };
}

function isMatch(wanted: ImagePlatform, platform: ImagePlatform): boolean {
  const { os, architecture, variant, osFeatures } = normalizePlatform(platform);
  return (
    os === wanted.os &&
    architecture === wanted.architecture &&
    variant === wanted.variant &&
    osFeatures.every((feature) => wanted.osFeatures.includes(feature))
  );
}

/** @source containerd/platforms v1 compare.go `platformVector` */
function compatiblePlatforms(platform: ImagePlatform): ImagePlatform[] {
  const variants = (names: readonly string[]): ImagePlatform[] => names.map((variant) => ({ ...platform, variant }));
  switch (platform.architecture) {
    case "amd64":
      return [
        platform,
        ...variants(versionsBelow(platform.variant, 1)),
        { ...platform, architecture: "386", variant: "" },
      ];
    case "arm":
      return [platform, ...variants(versionsBelow(platform.variant, 5))];
    case "arm64": {
      const names = arm64Variants(platform.variant);
      const arm = { ...platform, architecture: "arm", variant: "v8" };
      return names.length === 0 ? [] : [...variants(names), ...compatiblePlatforms(arm)];
    }
    default:
      return [platform];
  }
}

/** The versions below one such as `v7`, down to a lowest, highest first. */
function versionsBelow(variant: string, lowest: number): string[] {
  const version = /^v?(\d{1,3})$/.exec(variant)?.[1];
  const count = version === undefined ? 0 : Math.max(0, Number(version) - lowest);
  return Array.from({ length: count }, (_none, index) => `v${lowest + count - 1 - index}`);
}

/** An architecture version and all below: v9.n contains v8.(n+5). @source containerd/platforms v1 compare.go `arm64variantToVersion` */
function arm64Variants(variant: string): string[] {
  const version = /^v([89])(?:\.(\d))?$/.exec(variant === "" ? "v8" : variant);
  if (version === null) {
    return [];
  }
  const minor = Number(version[2] ?? 0);
  const down = (major: number, from: number): string[] =>
    Array.from({ length: from + 1 }, (_none, index) => (from === index ? `v${major}` : `v${major}.${from - index}`));
  return version[1] === "9" ? [...down(9, minor), ...down(8, Math.min(minor + 5, 9))] : down(8, minor);
}
