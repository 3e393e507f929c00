import { ErrorKind, FlotillaError } from "#base/errors.ts";

/** Credentials as the kubelet or the configuration writes them; "" for what is not said. */
export interface WrittenCredentials {
  readonly username: string;
  readonly password: string;
  /** Name and password, joined by a colon and in base64. */
  readonly auth: string;
  /** Address that they are good for alone. */
  readonly serverAddress: string;
  readonly identityToken: string;
  /** Goes with every request as it is. */
  readonly registryToken?: string;
}

/** Who we are at a registry. */
export type HostCredentials =
  | { readonly kind: "none" }
  | { readonly kind: "password"; readonly username: string; readonly secret: string }
  /** A token that is changed for one that goes with requests. */
  | { readonly kind: "refresh"; readonly secret: string }
  | { readonly kind: "header"; readonly secret: string };

const none: HostCredentials = { kind: "none" };

/**
 * The credentials for a host: a name and password, else a token that stands for the user, else both in one. Unlike with containerd a token for the registry itself counts, too.
 *
 * @param host - With its port, where it has one.
 * @throws {@link FlotillaError} `unknown` when they can't be read.
 * @source containerd v2.3.4 internal/cri/server/images/image_pull.go `ParseAuth`
 */
export function credentialsFor(written: WrittenCredentials | undefined, host: string): HostCredentials {
  if (written === undefined) {
    return none;
  }
  if (written.serverAddress !== "" && hostOf(written.serverAddress) !== host) {
    return none;
  }
  if (written.username !== "") {
    return { kind: "password", username: written.username, secret: written.password };
  }
  if (written.identityToken !== "") {
    return { kind: "refresh", secret: written.identityToken };
  }
  if (written.auth !== "") {
    return decode(written.auth);
  }
  const token = written.registryToken ?? "";
  return token === "" ? none : { kind: "header", secret: `Bearer ${token}` };
}

/** The host of an address such as `https://registry:5000/v1/`; an address without a scheme has none, as with containerd. */
function hostOf(address: string): string {
  return URL.canParse(address) ? new URL(address).host : "";
}

function decode(auth: string): HostCredentials {
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(auth)) {
    throw new FlotillaError(ErrorKind.Unknown, "illegal base64 data in credentials");
  }
  const text = Buffer.from(auth, "base64").toString("utf8");
  const colon = text.indexOf(":");
  if (colon < 0) {
    throw new FlotillaError(ErrorKind.Unknown, "invalid decoded auth: it has no colon");
  }
  const secret = text.slice(colon + 1).replace(/^\0+|\0+$/g, "");
  return { kind: "password", username: text.slice(0, colon), secret };
}
