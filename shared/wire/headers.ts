import { ErrorKind, failure, wrapFailure } from "#base/errors.ts";
import { validateIdentifier } from "#containerd/identifier.ts";
import type { Call } from "./handler.ts";

/** @source containerd v2.3.4 pkg/namespaces/grpc.go */
export const namespaceHeader = "containerd-namespace";
/** @source containerd v2.3.4 core/leases/grpc.go */
export const leaseHeader = "containerd-lease";

/** Asks for layers that are written out before they are committed, where a message has no field for that. The value counts only as `true`. */
export const syncFileSystemHeader = "flotilla-sync-file-system";

/** Asks for encrypted layers to be decrypted with keys of this machine. The value counts only as `true`. */
export const nodeKeysHeader = "flotilla-node-keys";

/** Limits of one transfer where it shall not have those of the transfer process, as whole numbers; their units are those of containerd's settings of the name. */
export const downloadLimitHeaders = {
  maxConcurrentDownloads: "flotilla-max-concurrent-downloads",
  concurrentLayerFetchBytes: "flotilla-concurrent-layer-fetch-buffer",
} as const;

/**
 * The namespace that a client calls in. It need not exist.
 *
 * @throws {@link FlotillaError} `failed_precondition` when the header is missing, `invalid_argument` when it is no identifier.
 * @source containerd v2.3.4 pkg/namespaces/context.go `NamespaceRequired`
 */
export function requireNamespace(call: Call): string {
  const namespace = call.header(namespaceHeader);
  if (namespace === undefined || namespace === "") {
    throw failure(ErrorKind.FailedPrecondition, "namespace is required");
  }
  try {
    validateIdentifier(namespace);
  } catch (error) {
    throw wrapFailure(error, "namespace validation");
  }
  return namespace;
}

/** The lease that shall hold what the call makes, or "" for none. */
export function leaseOf(call: Call): string {
  return call.header(leaseHeader) ?? "";
}

/** Headers for a call that one process makes on behalf of a client. */
export function clientHeaders(namespace: string, lease = ""): Record<string, string> {
  return lease === "" ? { [namespaceHeader]: namespace } : { [namespaceHeader]: namespace, [leaseHeader]: lease };
}
