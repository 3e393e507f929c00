import { createClient } from "@connectrpc/connect";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { unknownFate } from "#fleet/calls/changes.ts";
import type { ProxyLink } from "#fleet/proxies/proxy-link.ts";
import {
  Controller,
  type ControllerCreateRequest,
  type ControllerUpdateRequest,
} from "#gen/containerd/services/sandbox/v1/sandbox_pb.ts";
import { clientHeaders } from "#wire/headers.ts";
import type { SandboxCall, SandboxChange, SandboxEnd, Sandboxer } from "./sandboxer.ts";

/**
 * A sandbox controller that is somebody else's. Calls go to it as they are, under its own name.
 *
 * @source containerd v2.3.4 core/sandbox/proxy/controller.go
 */
export class ProxiedSandboxer implements Sandboxer {
  readonly #name: string;
  readonly #client: ReturnType<typeof createClient<typeof Controller>>;

  constructor(name: string, link: ProxyLink) {
    this.#name = name;
    this.#client = createClient(Controller, link.transport);
  }

  async create(call: SandboxChange, request: ControllerCreateRequest): Promise<void> {
    requireUndone(call, "created");
    await this.#client.create({ ...request, sandboxer: this.#name }, optionsOf(call));
  }

  async start(call: SandboxChange): ReturnType<Sandboxer["start"]> {
    requireUndone(call, "started");
    return this.#client.start(this.#sandbox(call), optionsOf(call));
  }

  async platform(call: SandboxCall): ReturnType<Sandboxer["platform"]> {
    return (await this.#client.platform(this.#sandbox(call), optionsOf(call))).platform;
  }

  async stop(call: SandboxCall, timeoutSeconds: number): Promise<void> {
    await this.#client.stop({ ...this.#sandbox(call), timeoutSecs: timeoutSeconds }, optionsOf(call));
  }

  async wait(call: SandboxCall): Promise<SandboxEnd> {
    const { exitStatus, exitedAt } = await this.#client.wait(this.#sandbox(call), optionsOf(call));
    return { exitStatus, exitedAt: { seconds: exitedAt?.seconds ?? 0n, nanos: exitedAt?.nanos ?? 0 } };
  }

  status(call: SandboxCall, verbose: boolean): ReturnType<Sandboxer["status"]> {
    return this.#client.status({ ...this.#sandbox(call), verbose }, optionsOf(call));
  }

  async shutDown(call: SandboxChange): Promise<void> {
    try {
      await this.#client.shutdown(this.#sandbox(call), optionsOf(call));
    } catch (error) {
      if (!call.attempt.mayBeDone || !isFailure(error, ErrorKind.NotFound)) {
        throw error;
      }
    }
  }

  async metrics(call: SandboxCall): ReturnType<Sandboxer["metrics"]> {
    return (await this.#client.metrics(this.#sandbox(call), optionsOf(call))).metrics;
  }

  async update(call: SandboxCall, request: ControllerUpdateRequest): Promise<void> {
    await this.#client.update({ ...request, sandboxer: this.#name }, optionsOf(call));
  }

  #sandbox({ id }: SandboxCall): { readonly sandboxId: string; readonly sandboxer: string } {
    return { sandboxId: id, sandboxer: this.#name };
  }
}

/** Somebody else's controller does not know our calls. */
function requireUndone({ id, attempt }: SandboxChange, done: string): void {
  if (attempt.mayBeDone) {
    throw unknownFate(`sandbox ${id} was ${done}`);
  }
}

function optionsOf({ namespace, signal }: SandboxCall): { headers: Record<string, string>; signal: AbortSignal } {
  return { headers: clientHeaders(namespace), signal };
}
