import { errorMessage } from "#base/errors.ts";

/**
 * How a command ended, as clients read it from the error stream of protocols since the fourth.
 *
 * @source k8s.io/cri-streaming pkg/streaming/remotecommand/status.go `streamStatus`
 */
export interface RemoteStatus {
  readonly status: "Success" | "Failure";
  readonly message?: string;
  readonly reason?: string;
  readonly details?: { readonly causes: readonly { readonly reason: string; readonly message: string }[] };
  readonly code?: number;
}

/** All went well. */
export const success: RemoteStatus = { status: "Success" };

/**
 * A command that ended with a code.
 *
 * @source k8s.io/cri-streaming pkg/streaming/remotecommand/exec.go `ServeExec`; containerd v2.3.4 internal/cri/server/streaming.go `Exec`
 */
export function exitStatus(command: readonly string[], exitCode: number): RemoteStatus {
  if (exitCode === 0) {
    return success;
  }
  return {
    status: "Failure",
    message: `command terminated with non-zero exit code: error executing command [${command.join(" ")}], exit code ${exitCode}`,
    reason: "NonZeroExitCode",
    details: { causes: [{ reason: "ExitCode", message: String(exitCode) }] },
  };
}

/** Something that could not be done. @param context - What was tried, as it stands before the reason. */
export function internalError(context: string, error: unknown): RemoteStatus {
  return {
    status: "Failure",
    message: `Internal error occurred: ${context}: ${errorMessage(error)}`,
    reason: "InternalError",
    code: 500,
  };
}

/**
 * A status as it goes over the error stream: JSON, or for the older protocols the message of what failed and nothing for success.
 *
 * @source k8s.io/cri-streaming pkg/streaming/remotecommand/httpstream.go `v1WriteStatusFunc`, `v4WriteStatusFunc`
 */
export function encodeStatus(status: RemoteStatus, isJson: boolean): Uint8Array {
  return Buffer.from(isJson ? JSON.stringify(status) : (status.message ?? ""));
}
