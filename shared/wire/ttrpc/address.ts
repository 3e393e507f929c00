import { ErrorKind, FlotillaError } from "#base/errors.ts";

/**
 * The path that Node connects to for an address in containerd's form: `unix:///path`, a plain absolute path, or a name
 * without scheme, which stands for an abstract socket as the oldest shims print it.
 *
 * @throws {@link FlotillaError} `not_implemented` for vsock and other schemes.
 * @source containerd v2.3.4 pkg/shim/util_unix.go `AnonDialer`, `socket.path`
 */
export function parseSocketAddress(address: string): string {
  const scheme = /^([a-z0-9+]+):\/\//.exec(address);
  if (scheme?.[1] === "unix") {
    return address.slice("unix://".length);
  }
  if (scheme !== null) {
    throw new FlotillaError(ErrorKind.NotImplemented, `unsupported protocol: ${scheme[1]}`);
  }
  return address.startsWith("/") ? address : `\0${address}`;
}
