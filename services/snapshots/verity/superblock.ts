import { ErrorKind, FlotillaError } from "#base/errors.ts";

/** @source cryptsetup, https://gitlab.com/cryptsetup/cryptsetup/-/wikis/DMVerity `Verity superblock format` */
export const superblockBytes = 512;
const signature = Buffer.from("verity\0\0", "latin1");
const version = 1;
const hashTypeOffset = 12;
const uuidOffset = 16;
const uuidBytes = 16;
const algorithmOffset = 32;
const algorithmBytes = 32;
const dataBlockBytesOffset = 64;
const hashBlockBytesOffset = 68;
const dataBlocksOffset = 72;
const saltBytesOffset = 80;
const saltOffset = 88;
const saltBytesMax = 256;
const blockBytesMin = 512;
const blockBytesMax = 512 * 1024;

/** How a device is checked: what stands before its hashes. */
export interface VeritySuperblock {
  /** 1: what is hashed is the salt and then the block. 0: the other way round. */
  readonly hashType: number;
  readonly uuid: Buffer;
  /** Such as `sha256`. */
  readonly algorithm: string;
  readonly dataBlockBytes: number;
  readonly hashBlockBytes: number;
  readonly dataBlocks: bigint;
  readonly salt: Buffer;
}

/** @returns 512 bytes. */
export function encodeSuperblock(superblock: VeritySuperblock): Buffer {
  const { hashType, uuid, algorithm, dataBlockBytes, hashBlockBytes, dataBlocks, salt } = superblock;
  const bytes = Buffer.alloc(superblockBytes);
  signature.copy(bytes);
  bytes.writeUInt32LE(version, signature.length);
  bytes.writeUInt32LE(hashType, hashTypeOffset);
  uuid.copy(bytes, uuidOffset);
  bytes.write(algorithm, algorithmOffset, "latin1");
  bytes.writeUInt32LE(dataBlockBytes, dataBlockBytesOffset);
  bytes.writeUInt32LE(hashBlockBytes, hashBlockBytesOffset);
  bytes.writeBigUInt64LE(dataBlocks, dataBlocksOffset);
  bytes.writeUInt16LE(salt.length, saltBytesOffset);
  salt.copy(bytes, saltOffset);
  return bytes;
}

/** @throws {@link FlotillaError} `unknown` for bytes that are no superblock, or one that no kernel takes. */
export function decodeSuperblock(bytes: Buffer): VeritySuperblock {
  const invalid = (what: string): never => {
    throw new FlotillaError(ErrorKind.Unknown, `device is not a valid VERITY device: verity: ${what}`);
  };
  if (bytes.length < superblockBytes) {
    return invalid(`data too short for superblock (${bytes.length} bytes)`);
  }
  if (!bytes.subarray(0, signature.length).equals(signature)) {
    return invalid("invalid superblock signature");
  }
  if (bytes.readUInt32LE(signature.length) !== version) {
    return invalid("unsupported superblock version");
  }
  const hashType = bytes.readUInt32LE(hashTypeOffset);
  const algorithm = bytes.toString("latin1", algorithmOffset, algorithmOffset + algorithmBytes).replace(/\0+$/, "");
  const dataBlockBytes = bytes.readUInt32LE(dataBlockBytesOffset);
  const hashBlockBytes = bytes.readUInt32LE(hashBlockBytesOffset);
  const saltBytes = bytes.readUInt16LE(saltBytesOffset);
  if (hashType > 1) {
    return invalid(`unsupported hash type ${hashType}`);
  }
  // It becomes a word among others of what the kernel is told.
  if (!/^[a-z0-9-]+$/.test(algorithm)) {
    return invalid("invalid hash algorithm");
  }
  if (!isBlockSize(dataBlockBytes) || !isBlockSize(hashBlockBytes)) {
    return invalid(`invalid block sizes ${dataBlockBytes} and ${hashBlockBytes}`);
  }
  if (saltBytes > saltBytesMax) {
    return invalid(`salt of ${saltBytes} bytes`);
  }
  return {
    hashType,
    uuid: bytes.subarray(uuidOffset, uuidOffset + uuidBytes),
    algorithm,
    dataBlockBytes,
    hashBlockBytes,
    dataBlocks: bytes.readBigUInt64LE(dataBlocksOffset),
    salt: bytes.subarray(saltOffset, saltOffset + saltBytes),
  };
}

function isBlockSize(bytes: number): boolean {
  return bytes >= blockBytesMin && bytes <= blockBytesMax && (bytes & (bytes - 1)) === 0;
}

/** Where the hashes begin, behind a superblock. */
export function hashStart(superblockOffset: number, hashBlockBytes: number): number {
  return superblockOffset + Math.ceil(superblockBytes / hashBlockBytes) * hashBlockBytes;
}
