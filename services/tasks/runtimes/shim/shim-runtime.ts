import { writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { ErrorKind, FlotillaError, isFailure, wrapFailure } from "#base/errors.ts";
import { validateIdentifier } from "#containerd/identifier.ts";
import type { Logger } from "#fleet/log.ts";
import { Task } from "#gen/containerd/task/v3/shim_pb.ts";
import { SupervisorGone, type TaskExit } from "../../domain/supervisor.ts";
import type { ShimEndpoint } from "../../shims/bootstrap.ts";
import { type Bundle, isMarkedAsSandbox } from "../../shims/bundles.ts";
import { type Shim, sandboxVersion } from "../../shims/shim.ts";
import type { ShimManager, ShimTimeouts } from "../../shims/shim-manager.ts";
import type { CreatedTask, FoundSandbox, Runtime, RuntimeTask, SandboxSupervisor, TaskCreation } from "../runtime.ts";
import { removeLeftCgroups } from "./left-cgroups.ts";
import { requireMappedMounts, usesMappedMounts } from "./mapped-mounts.ts";

export interface ShimRuntimeOptions {
  readonly shims: ShimManager;
  readonly timeouts: Pick<ShimTimeouts, "loadMs" | "cleanupMs">;
  readonly log: Logger;
  /** Whether a sandbox of that id is on record whose shim lives without tasks. */
  hasSandbox(namespace: string, id: string): Promise<boolean>;
}

const sandboxFileName = "sandbox";
const killSignal = 9;
/** A runtime of which it is known that it mounts nothing in a way of its own. */
const defaultRuntime = "io.containerd.runc.v2";
/** What a shim says that it mounts. @source containerd v2.3.4 core/runtime/v2/task_manager.go `allowedMounts` */
const handledMountsAnnotation = "containerd.io/runtime-allow-mounts";

/**
 * The runtime of containerd's shims: a binary of its own for each kind of container, started once for a container or a
 * pod, and spoken to by ttrpc.
 *
 * @source containerd v2.3.4 core/runtime/v2 (shim.go, shim_load.go, task_manager.go), docs/runtime-v2.md
 */
export class ShimRuntime implements Runtime {
  readonly #options: ShimRuntimeOptions;

  constructor(options: ShimRuntimeOptions) {
    this.#options = options;
  }

  async create(bundle: Bundle, wanted: TaskCreation): Promise<CreatedTask> {
    const shim = await this.#start(bundle, wanted).catch((error: unknown) => {
      throw wrapFailure(error, "failed to start shim");
    });
    try {
      wanted.signal.throwIfAborted();
      return { task: shim, pid: await this.#create(bundle, shim, wanted) };
    } catch (error) {
      await this.#abandon(bundle, shim, wanted.sandbox !== undefined);
      throw wrapFailure(error, "failed to create shim task");
    }
  }

  /** @source containerd v2.3.4 core/runtime/v2/shim_manager.go `loadShimInfo` */
  async listHandledMounts(runtime: string): Promise<readonly string[]> {
    if (runtime === defaultRuntime) {
      return [];
    }
    try {
      const { annotations } = await this.#options.shims.info(runtime, undefined);
      return (annotations[handledMountsAnnotation] ?? "").split(",").filter((type) => type !== "");
    } catch (error) {
      this.#options.log.error({ runtime, err: error }, "failed to load runtime info");
      return [];
    }
  }

  async reconnect(bundle: Bundle): Promise<RuntimeTask | FoundSandbox | "dead" | "empty"> {
    const { shims, timeouts, log } = this.#options;
    const shim = await shims.find(bundle);
    if (shim === undefined) {
      return "dead";
    }
    if (await isMarkedAsSandbox(bundle)) {
      return { sandbox: shim };
    }
    try {
      const { taskPid } = await shim.callOrDowngrade(
        Task.method.connect,
        { id: bundle.id },
        { timeoutMs: timeouts.loadMs },
      );
      if (taskPid !== 0 || (await this.#hasTask(bundle, shim))) {
        return shim;
      }
      if (await this.#options.hasSandbox(bundle.namespace, bundle.id)) {
        return { sandbox: shim };
      }
    } catch (error) {
      if (error instanceof SupervisorGone) {
        return "dead";
      }
      log.warn({ ns: bundle.namespace, container: bundle.id, err: error }, "shim listens and does not answer");
      return shim;
    }
    log.info({ ns: bundle.namespace, container: bundle.id }, "cleaning leaked shim process");
    await shim.shutDown();
    return "empty";
  }

  async cleanUp(bundle: Bundle): Promise<TaskExit | undefined> {
    const { shims, log } = this.#options;
    const exit = await shims.cleanUp(bundle);
    const about = { ns: bundle.namespace, container: bundle.id };
    try {
      const left = await removeLeftCgroups(bundle);
      if (left.length > 0) {
        log.debug({ ...about, cgroups: left }, "cgroups of a dead container are in use");
      }
    } catch (error) {
      log.warn({ ...about, err: error }, "the cgroups of a dead container may be left");
    }
    return exit;
  }

  /** Starts a shim, or joins the one of the sandbox, and connects to it. */
  async #start(bundle: Bundle, wanted: TaskCreation): Promise<Shim> {
    const { shims } = this.#options;
    const joined = wanted.sandbox === undefined ? undefined : await this.#sandboxEndpoint(bundle, wanted.sandbox);
    if (wanted.sandbox !== undefined && joined !== undefined) {
      await writeFile(`${bundle.path}/${sandboxFileName}`, wanted.sandbox.sandboxId, { mode: 0o600 });
      return shims.join(bundle, bundleOf(wanted.sandbox, bundle), joined);
    }
    const binary = await shims.resolve(wanted.runtime);
    if (wanted.spec !== undefined && usesMappedMounts(wanted.spec)) {
      await this.#requireMappedMounts(binary, wanted);
    }
    return shims.start(bundle, binary, wanted.options).catch((error: unknown) => {
      throw wrapFailure(error, "start failed");
    });
  }

  async #requireMappedMounts(binary: string, { options }: TaskCreation): Promise<void> {
    try {
      const info = await this.#options.shims.info(binary, options).catch((error: unknown) => {
        throw wrapFailure(error, "runtime info");
      });
      requireMappedMounts(info);
    } catch (error) {
      throw wrapFailure(error, "failed to validate OCI runtime features");
    }
  }

  /** The endpoint of a sandbox's shim if it may serve more than one container. */
  async #sandboxEndpoint(bundle: Bundle, sandbox: SandboxSupervisor): Promise<ShimEndpoint | undefined> {
    validateIdentifier(sandbox.sandboxId);
    let endpoint: ShimEndpoint | undefined;
    if (sandbox.address === "") {
      endpoint = await this.#options.shims.endpointOf(bundleOf(sandbox, bundle));
      if (endpoint === undefined) {
        throw new FlotillaError(ErrorKind.NotFound, `can't find shim for sandbox ${sandbox.sandboxId}: not found`);
      }
    } else {
      const [protocol, address] = sandbox.address.split(/\+(.*)/s);
      if (protocol === undefined || address === undefined) {
        throw new FlotillaError(
          ErrorKind.Unknown,
          "the scheme of sandbox address should be in  the form of <protocol>+<unix|vsock|tcp>, i.e. ttrpc+unix or grpc+vsock",
        );
      }
      endpoint = { version: sandbox.version, protocol, address };
    }
    return endpoint.version >= sandboxVersion ? endpoint : undefined;
  }

  /**
   * Has a shim create the container. Whoever gives that up waits until the shim is done, bounded: it goes on, and what it made after it was asked to
   * delete it would stay.
   */
  async #create(bundle: Bundle, shim: Shim, { request, options, signal }: TaskCreation): Promise<number> {
    const late = new AbortController();
    let timer: NodeJS.Timeout | undefined;
    const giveUp = (): void => {
      timer = setTimeout(() => late.abort(signal.reason), this.#options.timeouts.cleanupMs);
    };
    signal.addEventListener("abort", giveUp, { once: true });
    try {
      const { pid } = await shim.callOrDowngrade(
        Task.method.create,
        { ...request, id: bundle.id, bundle: bundle.path, ...(options === undefined ? {} : { options }) },
        { signal: late.signal },
      );
      signal.throwIfAborted();
      return pid;
    } finally {
      signal.removeEventListener("abort", giveUp);
      clearTimeout(timer);
    }
  }

  /**
   * Ends what a failed creation has left, in the order of containerd. A shim that does not know the container may still have had one made, as has one
   * that died meanwhile: its program clears that away, as it does for all when the shim is not to stay.
   */
  async #abandon(bundle: Bundle, shim: Shim, isSandboxed: boolean): Promise<void> {
    const { cleanupMs: timeoutMs } = this.#options.timeouts;
    const { id } = bundle;
    // Shims since 2.0 wait until nobody writes to the pipes any more before they delete what has not ended.
    await shim.call(Task.method.kill, { id, signal: killSignal, all: true }, { timeoutMs }).catch(() => undefined);
    const isDeleted = await shim.call(Task.method.delete, { id }, { timeoutMs }).then(
      () => true,
      () => false,
    );
    const staysAlive = isSandboxed && shim.version >= sandboxVersion;
    if (staysAlive) {
      shim.letGo();
    } else {
      await shim.shutDown();
    }
    if (!staysAlive || !isDeleted) {
      await this.cleanUp(bundle);
    }
  }

  async #hasTask(bundle: Bundle, shim: Shim): Promise<boolean> {
    const { timeouts } = this.#options;
    try {
      await shim.call(Task.method.state, { id: bundle.id }, { timeoutMs: timeouts.loadMs });
      return true;
    } catch (error) {
      if (!isFailure(error, ErrorKind.NotFound)) {
        throw error;
      }
      return false;
    }
  }
}

/** The bundle of a sandbox, beside that of one of its containers. */
function bundleOf({ sandboxId }: SandboxSupervisor, member: Bundle): Bundle {
  return {
    ...member,
    id: sandboxId,
    path: `${dirname(member.path)}/${sandboxId}`,
    workPath: `${dirname(member.workPath)}/${sandboxId}`,
  };
}
