import { execa } from "execa";

/** A certificate with its key, which is its own authority. */
export interface Certificate {
  readonly certificatePath: string;
  readonly keyPath: string;
}

/**
 * Makes a certificate for `127.0.0.1` and `localhost` that is good for a day.
 *
 * @param directory - Where `<name>.pem` and `<name>-key.pem` are written.
 */
export async function makeCertificate(directory: string, name: string): Promise<Certificate> {
  const certificatePath = `${directory}/${name}.pem`;
  const keyPath = `${directory}/${name}-key.pem`;
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", keyPath];
  const names = ["-subj", `/CN=${name}`, "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"];
  await execa("openssl", ["req", "-x509", "-sha256", "-days", "1", ...key, "-out", certificatePath, ...names]);
  return { certificatePath, keyPath };
}
