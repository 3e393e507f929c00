import type { MessageInitShape } from "@bufbuild/protobuf";
import { ErrorKind, FlotillaError, failure, isFailure, wrapFailure } from "#base/errors.ts";
import { timestampNow, timestampOrZero } from "#base/times.ts";
import { unknownFate } from "#fleet/calls/changes.ts";
import type { Logger } from "#fleet/log.ts";
import { Sandbox } from "#gen/containerd/runtime/sandbox/v1/sandbox_pb.ts";
import type {
  ControllerCreateRequest,
  ControllerPlatformResponseSchema,
  ControllerStartResponseSchema,
  ControllerStatusResponseSchema,
} from "#gen/containerd/services/sandbox/v1/sandbox_pb.ts";
import type { MetricSchema } from "#gen/containerd/types/metrics_pb.ts";
import type { Named, TaskTable } from "../domain/task-table.ts";
import { findMade } from "../made-task.ts";
import type { RuntimeTask } from "../runtimes/runtime.ts";
import { type Bundle, type Bundles, incarnationOf, markAsSandbox } from "../shims/bundles.ts";
import type { ShimManager } from "../shims/shim-manager.ts";
import type { SandboxCall, SandboxChange, SandboxEnd, Sandboxer } from "./sandboxer.ts";

/** A sandbox whose shim lives. */
export interface ShimSandbox {
  readonly namespace: string;
  readonly id: string;
  readonly bundle: Bundle;
  readonly shim: RuntimeTask;
}

/** What sandboxes of shims work with. */
export interface ShimSandboxParts {
  readonly shims: ShimManager;
  readonly bundles: Bundles;
  /** The sandboxes that are known. */
  readonly table: TaskTable<ShimSandbox>;
  readonly log: Logger;
  /** Waits until what a former process has left under an id is cleared away. */
  readonly whenBuried: (sandbox: Named, signal: AbortSignal) => Promise<void>;
}

/** How long the remains of a sandbox may take to go when its creation failed. @source containerd v2.3.4 plugins/sandbox/controller.go `cleanupShim` */
const cleanUpMsMax = 5_000;

/**
 * Sandboxes that live in shims which know them by themselves, as those of virtual machines do.
 *
 * @source containerd v2.3.4 plugins/sandbox/controller.go
 */
export class ShimSandboxer implements Sandboxer {
  readonly #parts: ShimSandboxParts;

  constructor(parts: ShimSandboxParts) {
    this.#parts = parts;
  }

  async create(change: SandboxChange, request: ControllerCreateRequest): Promise<void> {
    const { shims, bundles, table } = this.#parts;
    const { namespace, id, signal, attempt } = change;
    const { runtime, spec } = request.sandbox ?? {};
    await this.#clearHalfMade(change);
    if (table.find(namespace, id) !== undefined) {
      throw failure(ErrorKind.AlreadyExists, `sandbox ${id} already running`);
    }
    await table.reserve(namespace, id, signal);
    let bundle: Bundle | undefined;
    try {
      bundle = bundles.create(namespace, id, spec);
      attempt.note(await incarnationOf(bundle));
      await markAsSandbox(bundle);
      const binary = await shims.resolve(runtime?.name ?? "");
      const shim = await shims.start(bundle, binary, runtime?.options);
      try {
        await shim.call(
          Sandbox.method.createSandbox,
          {
            sandboxId: id,
            bundlePath: bundle.path,
            rootfs: request.rootfs,
            netnsPath: request.netnsPath,
            annotations: request.annotations,
            ...(request.options === undefined ? {} : { options: request.options }),
          },
          { signal },
        );
      } catch (error) {
        await this.#abandon(id, shim);
        await shim.shutDown();
        throw wrapFailure(error, `failed to create sandbox ${id}`);
      }
      this.adopt(bundle, shim);
    } catch (error) {
      if (bundle !== undefined) {
        const gone = this.#erase(bundle);
        table.settle({ namespace, id }, gone);
        await gone;
      }
      table.release(namespace, id);
      throw error;
    }
  }

  /** Clears away what a former process has made for this call and never told its client of: nothing runs in it yet. */
  async #clearHalfMade(change: SandboxChange): Promise<void> {
    if (change.attempt.noted === undefined) {
      return;
    }
    const made = await findMade(this.#parts.table, change, change.attempt);
    if (made === undefined) {
      await this.#parts.whenBuried(change, change.signal);
    } else {
      await this.#abandon(change.id, made.shim);
      await this.#forget(made);
    }
  }

  /** Takes up a sandbox, of this process or of a former one. */
  adopt(bundle: Bundle, shim: RuntimeTask): void {
    const { table, log, shims } = this.#parts;
    const { namespace, id } = bundle;
    const sandbox: ShimSandbox = { namespace, id, bundle, shim };
    table.add(sandbox);
    void shim.died.then(() => {
      if (table.remove(sandbox)) {
        log.warn({ ns: namespace, sandbox: id }, "cleaning up after the shim of a sandbox disconnected");
        table.settle(
          sandbox,
          shims.cleanUp(bundle).then(() => this.#erase(bundle)),
        );
      }
    });
  }

  /** Lets go of all shims, so that sandboxes live on. */
  async letGo(): Promise<void> {
    for (const { shim } of this.#parts.table.all()) {
      shim.letGo();
    }
    await this.#parts.table.settled();
  }

  async start({
    namespace,
    id,
    signal,
    attempt,
  }: SandboxChange): Promise<MessageInitShape<typeof ControllerStartResponseSchema>> {
    const sandbox = this.#parts.table.find(namespace, id);
    if (sandbox === undefined) {
      throw new FlotillaError(ErrorKind.Unknown, `unable to find sandbox "${id}"`);
    }
    if (attempt.mayBeDone) {
      // Shims refuse a second start, and what the first one has told is nowhere else to be had.
      throw unknownFate(`sandbox ${id} was started`);
    }
    const { shim } = sandbox;
    try {
      const { pid, createdAt, spec } = await shim.call(Sandbox.method.startSandbox, { sandboxId: id }, { signal });
      return {
        sandboxId: id,
        pid,
        createdAt: timestampOrZero(createdAt),
        address: shim.address,
        version: shim.version,
        ...(spec === undefined ? {} : { spec }),
      };
    } catch (error) {
      await this.#abandon(id, shim);
      await this.#forget(sandbox);
      throw wrapFailure(error, `failed to start sandbox ${id}`);
    }
  }

  async platform(call: SandboxCall): Promise<MessageInitShape<typeof ControllerPlatformResponseSchema>["platform"]> {
    const { shim } = this.#find(call);
    try {
      return (await shim.call(Sandbox.method.platform, { sandboxId: call.id }, { signal: call.signal })).platform;
    } catch (error) {
      throw wrapFailure(error, "failed to get sandbox platform");
    }
  }

  async stop({ namespace, id, signal }: SandboxCall, timeoutSeconds: number): Promise<void> {
    const sandbox = this.#parts.table.find(namespace, id);
    if (sandbox === undefined) {
      return;
    }
    try {
      const request = { sandboxId: id, timeoutSecs: timeoutSeconds };
      await sandbox.shim.call(Sandbox.method.stopSandbox, request, { signal });
    } catch (error) {
      if (!isFailure(error, ErrorKind.NotFound, ErrorKind.Unavailable)) {
        throw wrapFailure(error, "failed to stop sandbox");
      }
    }
  }

  async wait(call: SandboxCall): Promise<SandboxEnd> {
    const { shim } = this.#find(call);
    try {
      const request = { sandboxId: call.id };
      const { exitStatus, exitedAt } = await shim.call(Sandbox.method.waitSandbox, request, { signal: call.signal });
      return { exitStatus, exitedAt: timestampOrZero(exitedAt) };
    } catch (error) {
      throw wrapFailure(error, `failed to wait sandbox ${call.id}`);
    }
  }

  async status(
    { namespace, id, signal }: SandboxCall,
    verbose: boolean,
  ): Promise<MessageInitShape<typeof ControllerStatusResponseSchema>> {
    const sandbox = this.#parts.table.find(namespace, id);
    if (sandbox === undefined) {
      return { sandboxId: id, createdAt: timestampOrZero(undefined), exitedAt: timestampNow(), extra: {} };
    }
    const { shim } = sandbox;
    try {
      const told = await shim.call(Sandbox.method.sandboxStatus, { sandboxId: id, verbose }, { signal });
      return {
        sandboxId: told.sandboxId,
        pid: told.pid,
        state: told.state,
        info: told.info,
        createdAt: timestampOrZero(told.createdAt),
        exitedAt: timestampOrZero(told.exitedAt),
        extra: told.extra ?? {},
        address: shim.address,
        version: shim.version,
      };
    } catch (error) {
      throw wrapFailure(error, `failed to query sandbox ${id} status`);
    }
  }

  async shutDown(call: SandboxChange): Promise<void> {
    const { namespace, id, attempt } = call;
    if (attempt.mayBeDone && this.#parts.table.find(namespace, id) === undefined) {
      return;
    }
    const sandbox = this.#find(call);
    try {
      await sandbox.shim.call(Sandbox.method.shutdownSandbox, { sandboxId: call.id }, { signal: call.signal });
    } catch (error) {
      throw wrapFailure(error, "failed to shutdown sandbox");
    }
    await this.#forget(sandbox);
  }

  async metrics(call: SandboxCall): Promise<MessageInitShape<typeof MetricSchema> | undefined> {
    const { shim } = this.#find(call);
    return (await shim.call(Sandbox.method.sandboxMetrics, { sandboxId: call.id }, { signal: call.signal })).metrics;
  }

  #find({ namespace, id }: SandboxCall): ShimSandbox {
    const sandbox = this.#parts.table.find(namespace, id);
    if (sandbox === undefined) {
      throw new FlotillaError(ErrorKind.NotFound, ErrorKind.NotFound);
    }
    return sandbox;
  }

  /** Forgets a sandbox, ends its shim and clears away what it leaves. */
  async #forget(sandbox: ShimSandbox): Promise<void> {
    const { table } = this.#parts;
    if (table.remove(sandbox)) {
      const gone = sandbox.shim.shutDown().then(() => this.#erase(sandbox.bundle));
      table.settle(sandbox, gone);
      await gone;
    }
  }

  /** Ends a sandbox that did not come up; its shim stays. */
  async #abandon(id: string, shim: RuntimeTask): Promise<void> {
    await shim
      .call(Sandbox.method.shutdownSandbox, { sandboxId: id }, { timeoutMs: cleanUpMsMax })
      .catch((error: unknown) => this.#parts.log.warn({ sandbox: id, err: error }, "failed to shutdown sandbox"));
  }

  async #erase(bundle: Bundle): Promise<void> {
    const { bundles, log } = this.#parts;
    try {
      await bundles.erase(await bundles.hide(bundle));
    } catch (error) {
      log.error({ ns: bundle.namespace, sandbox: bundle.id, err: error }, "sandbox is not cleared away");
    }
  }
}
