import { createPrivateKey, createPublicKey, type KeyObject, randomBytes, sign } from "node:crypto";
import { ErrorKind, failure } from "#base/errors.ts";

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/** What the first characters of a key say: `S` for a private one, `U` for a user's. */
const seedPrefix = 18 << 3;
const userPrefix = 20 << 3;
const keyBytes = 32;
const checksumBytes = 2;
/** DER of an Ed25519 private key up to its 32 bytes. @source RFC 8410 section 7 */
const privateKeyHead = Buffer.from("302e020100300506032b657004220420", "hex");

/** Makes a private key for a user, as NATS writes it (a seed). */
export function makeUserSeed(): string {
  const prefix = [seedPrefix | (userPrefix >> 5), (userPrefix & 0x1f) << 3];
  return encodeKey(Buffer.concat([Buffer.from(prefix), randomBytes(keyBytes)]));
}

/**
 * The public key to a user's private one, which the server knows its user by.
 *
 * @throws {@link FlotillaError} `failed_precondition` for what is no private key of a user.
 */
export function publicKeyOf(seed: string): string {
  const encoded = createPublicKey(privateKeyOf(seed)).export({ format: "der", type: "spki" });
  return encodeKey(Buffer.concat([Buffer.from([userPrefix]), encoded.subarray(-keyBytes)]));
}

/**
 * Signs what a server asks for.
 *
 * By Node.js and not by the library of `nats`, which does this in JavaScript: it took some 45 ms of processor time at each start.
 *
 * @returns The signature in base64.
 * @throws {@link FlotillaError} `failed_precondition` for what is no private key of a user.
 */
export function signNonce(seed: string, nonce: string): string {
  return sign(null, Buffer.from(nonce), privateKeyOf(seed)).toString("base64");
}

function privateKeyOf(seed: string): KeyObject {
  const decoded = decodeKey(seed);
  if (
    decoded.length !== keyBytes + 2 ||
    decoded[0] !== (seedPrefix | (userPrefix >> 5)) ||
    decoded[1] !== (userPrefix & 0x1f) << 3
  ) {
    throw failure(ErrorKind.FailedPrecondition, "not a private key of a NATS user");
  }
  return createPrivateKey({
    key: Buffer.concat([privateKeyHead, decoded.subarray(2)]),
    format: "der",
    type: "pkcs8",
  });
}

/** @source nats-io/nkeys strkey.go `Encode`: base32 without padding, after a checksum in little endian */
function encodeKey(bytes: Buffer): string {
  const checksum = Buffer.alloc(checksumBytes);
  checksum.writeUInt16LE(crc16(bytes));
  let text = "";
  let bits = 0;
  let bitCount = 0;
  for (const byte of Buffer.concat([bytes, checksum])) {
    bits = ((bits << 8) | byte) & 0xfff;
    bitCount += 8;
    for (; bitCount >= 5; bitCount -= 5) {
      text += alphabet[(bits >> (bitCount - 5)) & 0x1f];
    }
  }
  return bitCount === 0 ? text : text + alphabet[(bits << (5 - bitCount)) & 0x1f];
}

function decodeKey(text: string): Buffer {
  const bytes: number[] = [];
  let bits = 0;
  let bitCount = 0;
  for (const character of text) {
    const value = alphabet.indexOf(character);
    if (value < 0) {
      throw failure(ErrorKind.FailedPrecondition, "not a key of NATS");
    }
    bits = ((bits << 5) | value) & 0xfff;
    bitCount += 5;
    if (bitCount >= 8) {
      bitCount -= 8;
      bytes.push((bits >> bitCount) & 0xff);
    }
  }
  const decoded = Buffer.from(bytes);
  const payload = decoded.subarray(0, -checksumBytes);
  if (decoded.length <= checksumBytes || decoded.readUInt16LE(payload.length) !== crc16(payload)) {
    throw failure(ErrorKind.FailedPrecondition, "not a key of NATS: its checksum is another one");
  }
  return payload;
}

/** @source nats-io/nkeys crc16.go: CRC-16/XMODEM */
function crc16(bytes: Buffer): number {
  let crc = 0;
  for (const byte of bytes) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit += 1) {
      crc = ((crc & 0x8000) === 0 ? crc << 1 : (crc << 1) ^ 0x1021) & 0xffff;
    }
  }
  return crc;
}
