import { accessSync, constants } from "node:fs";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { ProgramFailure, type ProgramOutput, runProgram } from "#linux/program.ts";

/** What a program of CNI is asked to do. @source CNI specification 1.1, section 2 */
export type CniCommand = "ADD" | "DEL" | "CHECK" | "STATUS";

/** One attachment of a pod to a network. */
export interface Attachment {
  readonly podId: string;
  /** Where the network namespace of the pod is mounted; "" when it is gone. */
  readonly netnsPath: string;
  readonly interfaceName: string;
  /** What programs are told by `CNI_ARGS`, in this order. */
  readonly args: readonly (readonly [name: string, value: string])[];
  /** What programs are told that say they can use it, by the name of the capability. */
  readonly capabilities: Readonly<Record<string, unknown>>;
}

/** How long a program may take. The kubelet waits four minutes for a pod. @source kubernetes pkg/kubelet/cri/remote `RunPodSandbox` */
const programMsMax = 220_000;

/** What a call of a program consists of. */
export interface PluginCall {
  readonly command: CniCommand;
  readonly type: string;
  readonly directories: readonly string[];
  /** What it reads. */
  readonly conf: Readonly<Record<string, unknown>>;
  /** Absent for STATUS. */
  readonly attachment: Attachment | undefined;
  readonly signal: AbortSignal | undefined;
}

/**
 * Runs a program of CNI.
 *
 * @returns What it printed.
 * @throws {@link FlotillaError} `unknown` with libcni's text when it is not there or fails; `deadline_exceeded` when it takes too long.
 * @source containernetworking/cni v1.3 pkg/invoke/raw_exec.go, args.go, find.go
 */
export async function runPlugin(call: PluginCall): Promise<string> {
  const path = findProgram(call.type, call.directories);
  try {
    const { stdout } = await runProgram({
      path,
      args: [],
      environment: environmentOf(call),
      input: Buffer.from(JSON.stringify(call.conf)),
      timeoutMs: programMsMax,
      signal: call.signal,
    });
    return stdout.toString();
  } catch (error) {
    if (!(error instanceof ProgramFailure) || error.kind === ErrorKind.DeadlineExceeded) {
      throw error;
    }
    throw failed(describeFailure(error.output, error.message), error);
  }
}

function environmentOf({ command, directories, attachment }: PluginCall): NodeJS.ProcessEnv {
  return {
    ...process.env,
    CNI_COMMAND: command,
    CNI_CONTAINERID: attachment?.podId ?? "",
    CNI_NETNS: attachment?.netnsPath ?? "",
    CNI_ARGS: attachment?.args.map((pair) => pair.join("=")).join(";") ?? "",
    CNI_IFNAME: attachment?.interfaceName ?? "",
    CNI_PATH: directories.join(":"),
  };
}

function findProgram(type: string, directories: readonly string[]): string {
  if (type.includes("/")) {
    throw failed(`invalid plugin name: ${type}`);
  }
  for (const directory of directories) {
    try {
      accessSync(`${directory}/${type}`, constants.X_OK);
      return `${directory}/${type}`;
    } catch {
      // The next one may have it.
    }
  }
  throw failed(`failed to find plugin ${quote(type)} in path [${directories.join(" ")}]`);
}

function describeFailure(output: ProgramOutput, end: string): string {
  const [stdout, stderr] = [output.stdout.toString(), output.stderr.toString()];
  if (stdout === "") {
    return stderr === "" ? `netplugin failed with no error message: ${end}` : `netplugin failed: ${quote(stderr)}`;
  }
  try {
    const { msg = "", details = "" } = JSON.parse(stdout) as { msg?: unknown; details?: unknown };
    return `${String(msg)}${details === "" ? "" : `; ${String(details)}`}`;
  } catch (error) {
    return `netplugin failed but error parsing its diagnostic message ${quote(stdout)}: ${String(error)}`;
  }
}

function failed(message: string, cause?: unknown): FlotillaError {
  return new FlotillaError(ErrorKind.Unknown, message, { cause });
}
