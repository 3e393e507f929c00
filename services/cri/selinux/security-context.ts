import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import type { SELinuxOption } from "#gen/runtime/v1/api_pb.ts";

/** A label of SELinux in its parts, of which a level need not be there. */
export interface SecurityContext {
  readonly user: string;
  readonly role: string;
  readonly type: string;
  readonly level: string;
}

/** @source containerd v2.3.4 internal/cri/server/helpers.go `checkSelinuxLevel` */
const levelPattern = /^s\d(-s\d)??(:c\d{1,4}(\.c\d{1,4})?(,c\d{1,4}(\.c\d{1,4})?)*)?$/;

/**
 * Takes a label apart.
 *
 * @throws {@link FlotillaError} `unknown` for what is none.
 * @source opencontainers/selinux v1.15 go-selinux/selinux_linux.go `newContext`
 */
export function parseContext(label: string): SecurityContext {
  const [user = "", role = "", type, ...level] = label.split(":");
  if (type === undefined) {
    throw new FlotillaError(ErrorKind.Unknown, "invalid Label");
  }
  return { user, role, type, level: level.join(":") };
}

/** Writes a label. @source opencontainers/selinux v1.15 go-selinux/selinux_linux.go `Context.get` */
export function formatContext({ user, role, type, level }: SecurityContext): string {
  return [user, role, type, ...(level === "" ? [] : [level])].join(":");
}

/** The level of a label, "" where it has none or is no label. */
export function levelOf(label: string): string {
  return label.split(":").slice(3).join(":");
}

/**
 * What the kubelet wants to be otherwise in a label.
 *
 * @throws {@link FlotillaError} `unknown` for a level that is none, in containerd's words.
 * @source containerd v2.3.4 internal/cri/server/helpers.go `toLabel`
 */
export function contextOptions(option: SELinuxOption | undefined): Partial<SecurityContext> {
  const { user = "", role = "", type = "", level = "" } = option ?? {};
  if (level !== "" && !levelPattern.test(level)) {
    throw new FlotillaError(ErrorKind.Unknown, `the format of 'level' ${quote(level)} is not correct`);
  }
  return Object.fromEntries(Object.entries({ user, role, type, level }).filter(([, value]) => value !== ""));
}
