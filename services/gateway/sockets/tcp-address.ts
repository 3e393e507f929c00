import { ErrorKind, failure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";

/** Where to listen on TCP. */
export interface TcpAddress {
  /** Absent for all addresses of the machine. */
  readonly host?: string;
  /** 0 for any that is free. */
  readonly port: number;
}

const portMax = 65_535;

/**
 * Reads an address as Go writes it: `127.0.0.1:8443`, `[::1]:8443`, `localhost:8443`, `:8443`.
 *
 * @throws {@link FlotillaError} `invalid_argument` that names the address.
 * @source Go 1.26 net/ipsock.go `SplitHostPort`
 */
export function parseTcpAddress(address: string): TcpAddress {
  const refuse = (why: string): never => {
    throw failure(ErrorKind.InvalidArgument, `address ${quote(address)}: ${why}`);
  };
  const match = /^(?:\[(?<bracketed>[^\]]*)\]|(?<plain>[^:[\]]*)):(?<port>\d{1,5})$/.exec(address);
  if (match === null) {
    const colons = address.split(":").length - 1;
    return refuse(colons > 1 && !address.startsWith("[") ? "too many colons in address" : "expected host:port");
  }
  const { bracketed, plain = "", port = "" } = match.groups ?? {};
  if (Number(port) > portMax) {
    return refuse("invalid port");
  }
  const host = bracketed ?? plain;
  return { ...(host === "" ? {} : { host }), port: Number(port) };
}
