import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import type { CreateTaskRequestSchema } from "#gen/containerd/task/v3/shim_pb.ts";
import type { SupervisorCallOptions, TaskExit } from "../domain/supervisor.ts";
import type { Bundle } from "../shims/bundles.ts";

/**
 * A runtime turns bundles into containers and finds them again.
 *
 * Words: a *bundle* is a directory that holds all there is to know of one task on this machine. A *supervisor* is whatever
 * keeps a container's standard streams and exit status while no process of the fleet runs: a shim, or a monitor process.
 *
 * States of a bundle, as a runtime sees it:
 *
 *     made --create--> created --call(start)--> running --> stopped --call(delete)--> empty --shutDown--> done
 *        \________________________ the supervisor dies ____________________________/
 *                                  cleanUp --> done
 *
 * The bundle is made before `create` and removed after `shutDown` or `cleanUp` by the caller, so whatever a runtime needs
 * to find a container again it keeps there. The process may be killed between any two steps; the next one begins
 * with `reconnect` on every bundle that is there.
 */
export interface Runtime {
  /**
   * Creates the container that a bundle describes, with its supervisor. Its first process waits to be started.
   *
   * When this fails nothing runs any more, and the bundle is the caller's to remove.
   *
   * @throws {@link FlotillaError} what the runtime says, text unchanged, since clients look for words in it.
   */
  create(bundle: Bundle, wanted: TaskCreation): Promise<CreatedTask>;
  /**
   * The types of mounts, and transformations such as `format/*`, that a runtime carries out itself although the mount manager could.
   *
   * @param runtime - As in {@link TaskCreation.runtime}. One that does not say what it can is asked for nothing special.
   */
  listHandledMounts(runtime: string): Promise<readonly string[]>;
  /**
   * Finds the container of a bundle again, bounded by the timeout `shim.load`.
   *
   * @throws When it can't be told whether there is a supervisor. The bundle is to be left alone then.
   * @returns The task; or `dead` when nobody supervises it any more; or `empty` when the supervisor had nothing to
   *   supervise and was ended. In both cases the caller cleans up. A supervisor that holds a sandbox and no task of the bundle's id is
   *   told apart.
   */
  reconnect(bundle: Bundle): Promise<RuntimeTask | FoundSandbox | "dead" | "empty">;
  /**
   * Ends and frees what a bundle without a living supervisor has left on the machine. May be repeated.
   *
   * @returns How the first process ended, as far as that is known; undefined when cleaning up failed.
   */
  cleanUp(bundle: Bundle): Promise<TaskExit | undefined>;
}

/** What a client wants of a new task. */
export interface TaskCreation {
  /** Name of the runtime, such as `io.containerd.runc.v2`, or the absolute path of its binary. */
  readonly runtime: string;
  /** Options for the runtime, of the task if it has any, else of the container. */
  readonly options: Any | undefined;
  /** The specification that is in the bundle. */
  readonly spec: Uint8Array | undefined;
  /** Standard streams, root file system and checkpoint, in the words of the task service. */
  readonly request: Omit<MessageInitShape<typeof CreateTaskRequestSchema>, "$typeName" | "id" | "bundle" | "options">;
  /** The sandbox whose supervisor takes the task in, if there is one that can. */
  readonly sandbox: SandboxSupervisor | undefined;
  /** Aborts when the client gives up. */
  readonly signal: AbortSignal;
}

/** Where a sandbox's supervisor listens. */
export interface SandboxSupervisor {
  readonly sandboxId: string;
  /** Such as `ttrpc+unix:///run/containerd/s/abc`; "" to ask the bundle of the sandbox. */
  readonly address: string;
  readonly version: number;
}

/** The supervisor of a sandbox that was found again. */
export interface FoundSandbox {
  readonly sandbox: RuntimeTask;
}

/** A container that has just been created. */
export interface CreatedTask {
  readonly task: RuntimeTask;
  /** Process id of its first process. */
  readonly pid: number;
}

/** A container with a living supervisor. */
export interface RuntimeTask {
  /**
   * Calls a method of containerd's task service, version 3, for this container. The messages and the errors are those of
   * that service, and events are the supervisor's business.
   *
   * @throws {@link FlotillaError} what the supervisor answered, text unchanged; {@link SupervisorGone} when it died.
   */
  call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options?: SupervisorCallOptions,
  ): Promise<MessageShape<O>>;
  /** Where the supervisor listens, as `protocol+address`, so that others may join it. */
  readonly address: string;
  /** Version of the task service that the supervisor speaks. */
  readonly version: number;
  /** Resolves when the supervisor is gone without having been asked to; never rejects, and never resolves after `shutDown` or `letGo`. */
  readonly died: Promise<void>;
  /**
   * Ends the supervisor of a container that has been deleted, and waits until it is gone, bounded by the timeout
   * `shim.shutdown`. A supervisor that has other containers stays. The bundle may be removed after that.
   */
  shutDown(): Promise<void>;
  /** Lets go of the supervisor without touching the container. */
  letGo(): void;
}
