import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { quote } from "#base/quote.ts";

/** A name of an image, taken apart. */
export interface Reference {
  /** Host, with its port if it names one: `docker.io`, `localhost:5000`. A name for a registry, not always its address. */
  readonly host: string;
  /** `library/alpine` */
  readonly repository: string;
  /** "" for none. */
  readonly tag: string;
  /** As it stands after `@`, unchecked; "" for none. */
  readonly digest: string;
}

const hostPattern = /^(?:[a-z0-9]+(?:[._-]+[a-z0-9]+)*|\[[0-9a-f:.]+\])(?::[0-9]*)?$/i;
/**
 * Wider than the distribution specification, which wants lower case: there are proxies in front of registries that take more. What would
 * change the path of a request (`..`, `%`, empty parts) is out.
 */
const repositoryPattern = /^[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:\/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*$/i;
/** @source distribution/distribution-spec v1.1 spec.md "Pulling manifests" */
const tagPattern = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
/** @source distribution/reference v0.6 reference.go `RepositoryNameTotalLengthMax` */
const repositoryBytesMax = 255;

/**
 * Takes the name of an image apart.
 *
 * @throws {@link FlotillaError} `invalid_argument`, in containerd's words where it refuses the name as well.
 * @source containerd v2.3.4 pkg/reference/reference.go `Parse`
 */
export function parseReference(text: string): Reference {
  if (text.includes("://")) {
    throw invalid("invalid reference");
  }
  const slash = text.indexOf("/");
  const host = slash < 0 ? text : text.slice(0, slash);
  if (host === "") {
    throw invalid("hostname required");
  }
  const path = slash < 0 ? "" : text.slice(slash + 1);
  const end = path.search(/[:@]/);
  const repository = end < 0 ? path : path.slice(0, end);
  const object = end < 0 ? "" : path.slice(end).replace(/^:/, "");
  const at = object.indexOf("@");
  const tag = at < 0 ? object : object.slice(0, at);
  if (
    !hostPattern.test(host) ||
    !repositoryPattern.test(repository) ||
    repository.length > repositoryBytesMax ||
    (tag !== "" && !tagPattern.test(tag))
  ) {
    throw invalid(`invalid reference ${quote(text)}`);
  }
  return { host, repository, tag, digest: at < 0 ? "" : object.slice(at + 1) };
}

function invalid(message: string): FlotillaError {
  return new FlotillaError(ErrorKind.InvalidArgument, message);
}
