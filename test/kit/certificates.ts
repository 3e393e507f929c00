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

/**
 * Makes a certificate that another one has signed.
 *
 * @param name - Common name, and name of the files as of {@link makeCertificate}.
 */
export async function makeSignedCertificate(
  directory: string,
  name: string,
  authority: Certificate,
  { days = 1 }: { readonly days?: number } = {},
): Promise<Certificate> {
  const { keyPath, certificatePath } = await makeCertificate(directory, name);
  const requestPath = `${directory}/${name}.csr`;
  await execa("openssl", ["req", "-new", "-key", keyPath, "-subj", `/CN=${name}`, "-out", requestPath]);
  const signer = ["-CA", authority.certificatePath, "-CAkey", authority.keyPath, "-CAcreateserial"];
  await execa("openssl", [
    "x509",
    "-req",
    "-in",
    requestPath,
    ...signer,
    "-days",
    String(days),
    "-out",
    certificatePath,
  ]);
  return { certificatePath, keyPath };
}
