import { ErrorKind, errorMessage, FlotillaError } from "#base/errors.ts";
import { ProgramFailure, runProgram } from "#linux/program.ts";

/** How long a program of a driver may take. */
const programMsMax = 120_000;

/**
 * Runs the programs by which a driver reaches the kernel, such as dmsetup. Tests put a recording one in its place.
 *
 * @returns What it printed, without blanks around it.
 * @throws {@link FlotillaError} `unknown` with what it said and how it ended.
 */
export type Programs = (program: string, ...args: readonly string[]) => Promise<string>;

/** The programs of this machine. */
export const machinePrograms: Programs = async (program, ...args) => {
  const environment = { ...process.env, PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin`, LC_ALL: "C" };
  try {
    const { stdout } = await runProgram({ path: program, args, environment, timeoutMs: programMsMax });
    return stdout.toString().trim();
  } catch (error) {
    const { stdout = "", stderr = "" } = error instanceof ProgramFailure ? error.output : {};
    const said = `${stdout.toString()}${stderr.toString()}`;
    const what = [program, ...args].join(" ");
    throw new FlotillaError(ErrorKind.Unknown, `${what}\nerror: ${said}\n: ${errorMessage(error)}`, { cause: error });
  }
};
