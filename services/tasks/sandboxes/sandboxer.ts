import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Attempt } from "#fleet/calls/changes.ts";
import type {
  ControllerCreateRequest,
  ControllerPlatformResponseSchema,
  ControllerStartResponseSchema,
  ControllerStatusResponseSchema,
  ControllerUpdateRequest,
} from "#gen/containerd/services/sandbox/v1/sandbox_pb.ts";
import type { MetricSchema } from "#gen/containerd/types/metrics_pb.ts";

/** Names one sandbox, and how long its client waits. */
export interface SandboxCall {
  readonly namespace: string;
  readonly id: string;
  /** Aborts when the client gives up. */
  readonly signal: AbortSignal;
}

/** The same for what changes it, which a process that died may have been asked for before. */
export interface SandboxChange extends SandboxCall {
  readonly attempt: Attempt;
}

/** How a sandbox ended. */
export interface SandboxEnd {
  readonly exitStatus: number;
  readonly exitedAt: { readonly seconds: bigint; readonly nanos: number };
}

/**
 * Runs sandboxes of one kind: environments that several containers share.
 *
 *     nothing --create--> created --start--> ready --(its process ends, or stop)--> ended --shutDown--> nothing
 *
 * A sandbox lives on its own: this process may end and find it again. All methods may be called at any time and by several
 * clients at once, of those that change a sandbox one at a time. Errors are what clients get, text and all.
 *
 * What may have been done already is not done twice: the changes find out by what they see, and fail with `unavailable` where that says nothing.
 * Stopping and updating twice is as good as once.
 *
 * @source containerd v2.3.4 core/sandbox/controller.go `Controller`
 */
export interface Sandboxer {
  /** Prepares a sandbox. @throws {@link FlotillaError} `already_exists` */
  create(change: SandboxChange, request: ControllerCreateRequest): Promise<void>;
  /** Starts what keeps it alive. When this fails nothing runs any more. */
  start(change: SandboxChange): Promise<MessageInitShape<typeof ControllerStartResponseSchema>>;
  /** What its containers run on. */
  platform(call: SandboxCall): Promise<MessageInitShape<typeof ControllerPlatformResponseSchema>["platform"]>;
  /**
   * Ends it with all that runs in it. One that is gone already is no error.
   *
   * @param timeoutSeconds - How long its processes have before they are killed; 0 for what the runtime thinks best.
   */
  stop(call: SandboxCall, timeoutSeconds: number): Promise<void>;
  /** Resolves when it has ended, at once if it has. @throws {@link FlotillaError} `not_found` for one that is not there. */
  wait(call: SandboxCall): Promise<SandboxEnd>;
  status(call: SandboxCall, verbose: boolean): Promise<MessageInitShape<typeof ControllerStatusResponseSchema>>;
  /** Removes what it has left. */
  shutDown(change: SandboxChange): Promise<void>;
  /** Measures it. */
  metrics(call: SandboxCall): Promise<MessageInitShape<typeof MetricSchema> | undefined>;
  /** Changes what it may use; absent where there is nothing to change. */
  update?(call: SandboxCall, request: ControllerUpdateRequest): Promise<void>;
}
