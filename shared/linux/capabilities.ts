import { checked, nativeFunction } from "./libc.ts";

/** Capabilities by their numbers. @source linux/capability.h */
const numbers = {
  CAP_CHOWN: 0,
  CAP_DAC_OVERRIDE: 1,
  CAP_FOWNER: 3,
  CAP_FSETID: 4,
  CAP_KILL: 5,
  CAP_SETGID: 6,
  CAP_SETUID: 7,
  CAP_LINUX_IMMUTABLE: 9,
  CAP_SYS_ADMIN: 21,
  CAP_SYS_RESOURCE: 24,
  CAP_MKNOD: 27,
  CAP_SETFCAP: 31,
} as const;

/** A capability that somebody here needs. @source capabilities(7) */
export type Capability = keyof typeof numbers;

/** @source linux/capability.h `_LINUX_CAPABILITY_VERSION_3` */
const version = 0x20080522;
/** Two words of 32 bits for each of the sets: effective, permitted, inheritable. */
const dataBytes = 24;
const wordBits = 32;
const setBytes = 4;

/** @source linux/prctl.h `PR_GET_SECUREBITS`; linux/securebits.h `SECBIT_NOROOT` */
const getSecureBits = 27;
const noRootBit = 1;

const capgetCall = nativeFunction("int capget(void *header, void *data)");
const capsetCall = nativeFunction("int capset(void *header, const void *data)");
const prctlCall = nativeFunction("int prctl(int option, ulong second, ulong third, ulong fourth, ulong fifth)");

/**
 * Gives up, for the calling thread and those that it makes from now on, all capabilities but those named, as far as it has them. It can't have them back.
 * A program that a process of root starts has all of the bounding set again, unless the machine does without that (`SECBIT_NOROOT`).
 *
 * @throws {@link SystemError}
 * @source capset(2), capabilities(7)
 */
export function keepCapabilities(names: readonly Capability[]): void {
  const header = Buffer.alloc(8);
  header.writeUInt32LE(version, 0);
  const data = Buffer.alloc(dataBytes);
  checked(capgetCall(header, data), () => "capget");
  for (let word = 0; word < 2; word += 1) {
    let kept = 0;
    for (const name of names) {
      const number = numbers[name];
      if (Math.floor(number / wordBits) === word) {
        kept += 2 ** (number % wordBits);
      }
    }
    for (let set = 0; set < 3; set += 1) {
      const at = (word * 3 + set) * setBytes;
      // A bitwise "and" of all 32 bits is negative where the highest is set.
      data.writeUInt32LE((data.readUInt32LE(at) & kept) >>> 0, at);
    }
  }
  checked(capsetCall(header, data), () => "capset");
}

/** Whether programs that this process starts as root have all of the bounding set. */
export function rootHasCapabilities(): boolean {
  const bits = checked(prctlCall(getSecureBits, 0, 0, 0, 0), () => "prctl PR_GET_SECUREBITS");
  return process.geteuid?.() === 0 && (bits & noRootBit) === 0;
}
