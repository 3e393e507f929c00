import { generateKeyPairSync, randomBytes, sign } from "node:crypto";
import { isIPv4 } from "node:net";

/** A certificate and its key, as PEM. */
export interface KeyPair {
  readonly cert: string;
  readonly key: string;
}

/** How long such a certificate is good; it is made anew at each start. @source k8s.io/client-go util/cert/cert.go `GenerateSelfSignedCertKey` */
const validDays = 365;
const msPerDay = 86_400_000;

/** Tags of DER. @source ITU-T X.690 */
const tag = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  objectId: 0x06,
  utf8String: 0x0c,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
  dnsName: 0x82,
  ipAddress: 0x87,
  version: 0xa0,
  extensions: 0xa3,
} as const;

/** Object identifiers, encoded. @source RFC 5280, RFC 5758 */
const objectId = {
  commonName: "550403",
  ecdsaWithSha256: "2a8648ce3d040302",
  subjectAlternativeName: "551d11",
  basicConstraints: "551d13",
  extendedKeyUsage: "551d25",
  serverAuthentication: "2b06010505070301",
} as const;

/**
 * Makes a certificate that is its own authority, with a key of the curve P-256.
 *
 * @param commonName - Whose it is.
 * @param addresses - IP addresses and names of hosts at which it is shown.
 * @source RFC 5280, section 4.1
 */
export function makeSelfSignedCertificate(commonName: string, addresses: readonly string[]): KeyPair {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const name = sequence(
    der(tag.set, sequence(der(tag.objectId, hex(objectId.commonName)), der(tag.utf8String, Buffer.from(commonName)))),
  );
  const algorithm = sequence(der(tag.objectId, hex(objectId.ecdsaWithSha256)));
  const nowMs = Date.now();
  const toBeSigned = sequence(
    der(tag.version, der(tag.integer, Buffer.from([2]))),
    der(tag.integer, serialNumber()),
    algorithm,
    name,
    sequence(time(nowMs - msPerDay), time(nowMs + validDays * msPerDay)),
    name,
    publicKey.export({ type: "spki", format: "der" }),
    der(
      tag.extensions,
      sequence(
        extension(objectId.basicConstraints, sequence(der(tag.boolean, Buffer.from([0xff])))),
        extension(objectId.extendedKeyUsage, sequence(der(tag.objectId, hex(objectId.serverAuthentication)))),
        extension(objectId.subjectAlternativeName, sequence(...addresses.flatMap(alternativeNames))),
      ),
    ),
  );
  const signature = sign("sha256", toBeSigned, { key: privateKey, dsaEncoding: "der" });
  const certificate = sequence(toBeSigned, algorithm, der(tag.bitString, Buffer.from([0]), signature));
  return { cert: pem("CERTIFICATE", certificate), key: privateKey.export({ type: "pkcs8", format: "pem" }) };
}

/** Positive and never beginning with a zero byte, as an integer has to be. */
function serialNumber(): Buffer {
  const bytes = randomBytes(16);
  bytes.writeUInt8((bytes.readUInt8(0) & 0x7f) | 0x40);
  return bytes;
}

function extension(id: string, value: Buffer): Buffer {
  return sequence(der(tag.objectId, hex(id)), der(tag.octetString, value));
}

/** An address stands there as such and, for clients that look for names alone, as a name. */
function alternativeNames(address: string): Buffer[] {
  const name = der(tag.dnsName, Buffer.from(address, "latin1"));
  const bytes = addressBytes(address);
  return bytes === undefined ? [name] : [name, der(tag.ipAddress, bytes)];
}

function addressBytes(address: string): Buffer | undefined {
  if (isIPv4(address)) {
    return Buffer.from(address.split(".").map(Number));
  }
  const url = address.includes(":") && URL.canParse(`http://[${address}]`) ? new URL(`http://[${address}]`) : undefined;
  if (url === undefined) {
    return undefined;
  }
  const [head = "", tail] = url.hostname.slice(1, -1).split("::");
  const groups = (text: string): string[] => (text === "" ? [] : text.split(":"));
  const [before, after] = [groups(head), groups(tail ?? "")];
  const zeros = Array.from({ length: 8 - before.length - after.length }, () => "0");
  return Buffer.from(
    [...before, ...zeros, ...after].flatMap((group) => [
      Number.parseInt(group, 16) >> 8,
      Number.parseInt(group, 16) & 0xff,
    ]),
  );
}

function time(ms: number): Buffer {
  const text = new Date(ms).toISOString().replace(/[-:T]/g, "").replace(/\.\d+/, "");
  return der(tag.generalizedTime, Buffer.from(text, "latin1"));
}

function sequence(...parts: readonly Uint8Array[]): Buffer {
  return der(tag.sequence, ...parts);
}

function der(type: number, ...parts: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(parts);
  if (content.length < 0x80) {
    return Buffer.concat([Buffer.from([type, content.length]), content]);
  }
  const length = hex(content.length.toString(16).padStart(content.length > 0xff ? 4 : 2, "0"));
  return Buffer.concat([Buffer.from([type, 0x80 | length.length]), length, content]);
}

function hex(text: string): Buffer {
  return Buffer.from(text, "hex");
}

function pem(label: string, bytes: Buffer): string {
  const lines = bytes.toString("base64").match(/.{1,64}/g) ?? [];
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ""].join("\n");
}
