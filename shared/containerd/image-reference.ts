import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { quote } from "#base/quote.ts";

/** A name of an image in Docker's sense, in full. */
export interface ImageReference {
  readonly domain: string;
  readonly path: string;
  /** "" for none. */
  readonly tag: string;
  /** "" for none. */
  readonly digest: string;
}

const defaultDomain = "docker.io";
const officialPrefix = "library/";
/** @source distribution/reference v0.6 reference.go `RepositoryNameTotalLengthMax` */
const nameCharactersMax = 255;
/** Far more than a name with tag and digest has; what is longer is not looked at. */
const textCharactersMax = 1024;

const label = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
const domain = `(?:${label}(?:\\.${label})*|\\[[a-fA-F0-9:]+\\])(?::[0-9]+)?`;
const component = "[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*";
const tag = "[\\w][\\w.-]{0,127}";
const digest = "[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}";
/** @source distribution/reference v0.6 regexp.go `ReferenceRegexp` */
const pattern = new RegExp(`^(${domain})/(${component}(?:/${component})*)(?::(${tag}))?(?:@(${digest}))?$`);

/**
 * Reads a name as people write it, such as `alpine` or `ghcr.io/owner/image@sha256:…`.
 *
 * @throws {@link FlotillaError} `unknown` when it is none.
 * @source distribution/reference v0.6 normalize.go `ParseNormalizedNamed`
 */
export function parseImageReference(text: string): ImageReference {
  const fault = "invalid reference format";
  if (text.length > textCharactersMax || /^[a-f0-9]{64}$/.test(text)) {
    throw new FlotillaError(ErrorKind.Unknown, `${fault}: ${quote(text.slice(0, textCharactersMax))}`);
  }
  const [, found = "", path = "", tag = "", digest = ""] = pattern.exec(withDomain(text)) ?? [];
  if (path === "" || found.length + 1 + path.length > nameCharactersMax) {
    throw new FlotillaError(ErrorKind.Unknown, fault);
  }
  return { domain: found, path, tag, digest };
}

/** @source distribution/reference v0.6 normalize.go `splitDockerDomain` */
function withDomain(text: string): string {
  const slash = text.indexOf("/");
  const first = slash === -1 ? "" : text.slice(0, slash);
  const isDomain = first === "localhost" || /[.:]/.test(first) || first.toLowerCase() !== first;
  const [found, rest] = isDomain ? [first, text.slice(slash + 1)] : [defaultDomain, text];
  const domain = found === "index.docker.io" ? defaultDomain : found;
  return `${domain}/${domain === defaultDomain && !rest.includes("/") ? officialPrefix : ""}${rest}`;
}

/**
 * The full name of an image that people write shorter. A tag beside a digest is left out, and `latest` stands for neither.
 *
 * @throws as {@link parseImageReference}
 * @source distribution/reference v0.6 normalize.go `ParseDockerRef`
 */
export function normalizeImageName(text: string): string {
  const { domain, path, tag, digest } = parseImageReference(text);
  return `${domain}/${path}${digest === "" ? `:${tag === "" ? "latest" : tag}` : `@${digest}`}`;
}

/**
 * The shortest name of an image, as Docker shows it.
 *
 * @throws as {@link parseImageReference}
 * @source containerd v2.3.4 core/images/archive/reference.go `familiarizeReference`
 */
export function familiarImageName(text: string): string {
  const { domain, path, tag, digest } = parseImageReference(text);
  const isOfficial = path.startsWith(officialPrefix) && !path.slice(officialPrefix.length).includes("/");
  const name = domain === defaultDomain ? (isOfficial ? path.slice(officialPrefix.length) : path) : `${domain}/${path}`;
  const shownTag = tag === "" ? (digest === "" ? ":latest" : "") : `:${tag}`;
  return `${name}${shownTag}${digest === "" ? "" : `@${digest}`}`;
}

/**
 * What an OCI layout calls an image: its tag, or its whole name where there is none.
 *
 * @source containerd v2.3.4 core/images/archive/reference.go `ociReferenceName`, pkg/reference/reference.go `Parse`
 */
export function layoutNameOf(name: string): string {
  const slash = name.indexOf("/");
  const end = slash <= 0 || name.includes("://") ? -1 : name.slice(slash).search(/[:@]/);
  const object = end === -1 ? "" : name.slice(slash + end);
  return object.startsWith(":") && object.length > 1 ? object.slice(1) : name;
}
