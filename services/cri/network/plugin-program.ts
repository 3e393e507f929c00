import { spawn } from "node:child_process";
import { constants } from "node:fs";
import { access } from "node:fs/promises";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { quote } from "#base/quote.ts";

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

/** Most that a program may print. */
const outputBytesMax = 4 * 1024 * 1024;
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
  const path = await findProgram(call.type, call.directories);
  return await new Promise((resolve, reject) => {
    const deadline = AbortSignal.timeout(programMsMax);
    const program = spawn(path, {
      env: environmentOf(call),
      stdio: ["pipe", "pipe", "pipe"],
      killSignal: "SIGKILL",
      signal: call.signal === undefined ? deadline : AbortSignal.any([deadline, call.signal]),
    });
    const output = { stdout: "", stderr: "" };
    const collect = (name: "stdout" | "stderr") => (piece: string) => {
      output[name] += piece;
      if (output[name].length > outputBytesMax) {
        program.kill("SIGKILL");
      }
    };
    program.once("error", (error) => {
      reject(
        deadline.aborted
          ? new FlotillaError(ErrorKind.DeadlineExceeded, ErrorKind.DeadlineExceeded, { cause: error })
          : failed(`netplugin failed with no error message: ${error.message}`, error),
      );
    });
    // Without descriptors or memory Node gives a child that has no streams, and tells the error later.
    if (program.pid === undefined) {
      return;
    }
    program.stdout.setEncoding("utf8").on("data", collect("stdout"));
    program.stderr.setEncoding("utf8").on("data", collect("stderr"));
    // A program that does not read its input breaks the pipe; its exit says whether that matters.
    program.stdin.on("error", () => undefined);
    program.stdin.end(JSON.stringify(call.conf));
    program.once("close", (status, signal) => {
      if (status === 0) {
        resolve(output.stdout);
      } else {
        reject(failed(describeFailure(output, status === null ? `signal: ${signal}` : `exit status ${status}`)));
      }
    });
  });
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

async function findProgram(type: string, directories: readonly string[]): Promise<string> {
  if (type.includes("/")) {
    throw failed(`invalid plugin name: ${type}`);
  }
  for (const directory of directories) {
    try {
      await access(`${directory}/${type}`, constants.X_OK);
      return `${directory}/${type}`;
    } catch {
      // The next one may have it.
    }
  }
  throw failed(`failed to find plugin ${quote(type)} in path [${directories.join(" ")}]`);
}

function describeFailure(
  { stdout, stderr }: { readonly stdout: string; readonly stderr: string },
  end: string,
): string {
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
