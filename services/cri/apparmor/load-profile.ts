import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { ProgramFailure, runProgram } from "#linux/program.ts";
import { defaultProfile } from "./default-profile.ts";

/** What AppArmor is reached by. */
export interface ApparmorPort {
  /** Names of the profiles that the kernel has. */
  loaded(): Promise<readonly string[]>;
  /** Hands a profile to the kernel. @throws {@link ProgramFailure} */
  load(profile: string): Promise<void>;
  daemonProfile(): Promise<string>;
  readonly hasFile: (name: string) => boolean;
}

/** Longer than the machine's slowest takes to compile a profile. */
const loadMsMax = 60_000;

/** @source containerd v2.3.4 contrib/apparmor/template.go `isLoaded`, `load`, `cleanProfileName`, `macroExists` */
export const machineApparmor: ApparmorPort = {
  loaded: async () => {
    const text = await readFile("/sys/kernel/security/apparmor/profiles", "utf8");
    return text.split("\n").map((line) => line.replace(/ \(.*/, ""));
  },
  load: async (profile) => {
    await runProgram({
      path: "/sbin/apparmor_parser",
      args: ["-Kr"],
      environment: process.env,
      input: Buffer.from(profile),
      timeoutMs: loadMsMax,
    });
  },
  daemonProfile: async () => {
    const text = await readFile("/proc/self/attr/current", "utf8").catch(() => "");
    return /^[^\s\0]+/.exec(text)?.[0] ?? "unconfined";
  },
  hasFile: (name) => existsSync(`/etc/apparmor.d/${name}`),
};

/**
 * Makes sure that the kernel has the profile of containers that ask for none, which a start of the machine forgets.
 *
 * @throws {@link FlotillaError} `unknown` when it can't be loaded, with what `apparmor_parser` says.
 * @source containerd v2.3.4 contrib/apparmor/apparmor.go `LoadDefaultProfile`
 */
export async function loadDefaultProfile(name: string, port: ApparmorPort = machineApparmor): Promise<void> {
  if ((await port.loaded()).includes(name)) {
    return;
  }
  const surroundings = { daemonProfile: await port.daemonProfile(), has: port.hasFile };
  try {
    await port.load(defaultProfile(name, surroundings));
  } catch (error) {
    if (!(error instanceof ProgramFailure)) {
      throw error;
    }
    const said = Buffer.concat([error.output.stdout, error.output.stderr]).toString().trim();
    throw new FlotillaError(
      ErrorKind.Unknown,
      `load apparmor profile ${name}: parser error(${quote(said)}): ${error.message}`,
      { cause: error },
    );
  }
}

/**
 * Makes sure that the kernel has a profile that a container asks for.
 *
 * @throws {@link FlotillaError} `unknown`, in containerd's words.
 * @source containerd v2.3.4 internal/cri/sputil/apparmor_linux.go
 */
export async function requireProfile(name: string, port: ApparmorPort = machineApparmor): Promise<void> {
  if (!(await port.loaded()).includes(name)) {
    throw new FlotillaError(
      ErrorKind.Unknown,
      `failed to generate apparmor spec opts: apparmor profile not found ${name}`,
    );
  }
}
