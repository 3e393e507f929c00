import { readFile } from "node:fs/promises";
import tls from "node:tls";
import { ErrorKind, errorMessage, FlotillaError } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import type { HostTls } from "../hosts/host.ts";

/** What a TLS connection needs to know. */
export interface TlsSettings {
  readonly rejectUnauthorized: boolean;
  readonly secureContext: tls.SecureContext;
}

/** For all hosts of which nothing is said: some hundred certificates are to be read but once. */
let commonContext: tls.SecureContext | undefined;

/**
 * Reads the certificates of a host.
 *
 * @param hostTls - Absent when only the system's certificates count.
 * @throws {@link FlotillaError} `unknown`, in containerd's words, when a file can't be read or makes no sense.
 * @source containerd v2.3.4 core/remotes/docker/config/hosts.go `updateTLSConfigFromHost`
 */
export async function loadTlsSettings(hostTls: HostTls | undefined): Promise<TlsSettings> {
  if (hostTls === undefined) {
    commonContext ??= tls.createSecureContext({ ca: [...systemCertificates()] });
    return { rejectUnauthorized: true, secureContext: commonContext };
  }
  const { skipVerify } = hostTls;
  const ca: string[] = skipVerify ? [] : [...systemCertificates()];
  for (const path of hostTls.caFiles) {
    const text = await readCertificate(path, "CA cert");
    if (!text.includes("-----BEGIN CERTIFICATE-----")) {
      throw new FlotillaError(ErrorKind.Unknown, `unable to load CA cert ${quote(path)}`);
    }
    ca.push(text);
  }
  const cert: string[] = [];
  const key: string[] = [];
  for (const [certificatePath, keyPath] of hostTls.clientFiles) {
    const certificate = await readCertificate(certificatePath, "CERT file");
    cert.push(certificate);
    key.push(keyPath === undefined ? certificate : await readCertificate(keyPath, "CERT file"));
  }
  try {
    const secureContext = tls.createSecureContext({ ca, ...(cert.length === 0 ? {} : { cert, key }) });
    return { rejectUnauthorized: !skipVerify, secureContext };
  } catch (error) {
    throw new FlotillaError(ErrorKind.Unknown, `failed to load X509 key pair: ${errorMessage(error)}`, {
      cause: error,
    });
  }
}

/** What the machine trusts. Node.js brings certificates of its own for machines that have none. */
function systemCertificates(): readonly string[] {
  const system = tls.getCACertificates("system");
  return system.length > 0 ? system : tls.getCACertificates("default");
}

async function readCertificate(path: string, what: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw new FlotillaError(ErrorKind.Unknown, `unable to read ${what} ${quote(path)}: ${errorMessage(error)}`, {
      cause: error,
    });
  }
}
