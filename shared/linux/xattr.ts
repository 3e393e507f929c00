import { asByteString, type ByteString } from "./bytes.ts";
import { Errno, lastErrno, nativeFunction, outcome, SystemError } from "./libc.ts";
import { pathBytesMax, placePath } from "./path-memory.ts";

/** Longest value of an extended attribute. @source linux/limits.h `XATTR_SIZE_MAX` */
const valueBytesMax = 65536;
/** Longest list of names. @source linux/limits.h `XATTR_LIST_MAX` */
const listBytesMax = 65536;

const path = Buffer.alloc(pathBytesMax);
const attribute = Buffer.alloc(256);
let scratch: Buffer | undefined;

/**
 * Puts a file and an attribute into memory. There are no xattr calls by directory and name in older kernels, so the path goes
 * through /proc; its last part is not followed.
 */
function place(directory: number, name: ByteString, key: ByteString): void {
  const full = name === "" ? `/proc/self/fd/${directory}/.` : `/proc/self/fd/${directory}/${name}`;
  if (!placePath(path, asByteString(full))) {
    throw new SystemError(Errno.NameTooLong, `xattr ${key} of ${name}`);
  }
  if (key.length >= attribute.length) {
    throw new SystemError(outOfRange, `xattr ${key} of ${name}`);
  }
  attribute.write(key, 0, "latin1");
  attribute[key.length] = 0;
}

/** @source asm-generic/errno-base.h `ERANGE` */
const outOfRange = 34;

const lsetxattrCall = nativeFunction(
  "int lsetxattr(const void *path, const void *name, const void *value, size_t size, int flags)",
);
const createOnly = 1;

/**
 * Sets an extended attribute of a file, or of a symbolic link itself.
 *
 * @param create - Fail with `EEXIST` when there is one of that name.
 * @returns 0 or the negated error number.
 */
export function setAttributeAt(
  directory: number,
  name: ByteString,
  key: ByteString,
  value: Uint8Array,
  { create = false }: { readonly create?: boolean } = {},
): number {
  place(directory, name, key);
  return outcome(lsetxattrCall(path, attribute, value, value.length, create ? createOnly : 0));
}

const fsetxattrCall = nativeFunction(
  "int fsetxattr(int descriptor, const void *name, const void *value, size_t size, int flags)",
);

/** Sets an extended attribute of an open file. Answers 0 or the negated error number. */
export function setAttribute(descriptor: number, key: ByteString, value: Uint8Array): number {
  place(descriptor, asByteString(""), key);
  return outcome(fsetxattrCall(descriptor, attribute, value, value.length, 0));
}

const lgetxattrCall = nativeFunction("long lgetxattr(const void *path, const void *name, void *value, size_t size)");

/**
 * The value of an extended attribute.
 *
 * @returns Undefined when there is none, or when the file system has none at all.
 * @throws {@link SystemError}
 */
export function findAttributeAt(directory: number, name: ByteString, key: ByteString): Buffer | undefined {
  place(directory, name, key);
  scratch ??= Buffer.alloc(valueBytesMax);
  const length = lgetxattrCall(path, attribute, scratch, scratch.length);
  if (length !== -1) {
    return Buffer.from(scratch.subarray(0, length));
  }
  const errno = lastErrno();
  if (errno === Errno.NoData || errno === Errno.NotSupported) {
    return undefined;
  }
  throw new SystemError(errno, `getxattr ${key} of ${name}`);
}

const llistxattrCall = nativeFunction("long llistxattr(const void *path, void *list, size_t size)");

/** The names of all extended attributes of a file, in the order of the file system. @throws {@link SystemError} */
export function listAttributesAt(directory: number, name: ByteString): ByteString[] {
  place(directory, name, asByteString(""));
  scratch ??= Buffer.alloc(listBytesMax);
  const length = llistxattrCall(path, scratch, scratch.length);
  if (length === -1) {
    const errno = lastErrno();
    if (errno === Errno.NotSupported) {
      return [];
    }
    throw new SystemError(errno, `listxattr ${name}`);
  }
  return scratch.toString("latin1", 0, length).split("\0").filter(Boolean).map(asByteString);
}
