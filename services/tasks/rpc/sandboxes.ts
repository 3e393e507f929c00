import { randomUUID } from "node:crypto";
import { create, type DescMessage, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { ErrorKind, FlotillaError, failure, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { SandboxCreateSchema, SandboxExitSchema, SandboxStartSchema } from "#gen/containerd/events/sandbox_pb.ts";
import { Controller } from "#gen/containerd/services/sandbox/v1/sandbox_pb.ts";
import { bindService, type Call, type Handlers, type ServiceBinding } from "#wire/handler.ts";
import { requireNamespace } from "#wire/headers.ts";
import type { EventLog } from "../domain/ports.ts";
import type { SandboxCall, Sandboxer } from "../sandboxes/sandboxer.ts";

/** What the service answers from. */
export interface SandboxParts {
  /** By the names under which clients ask for them. */
  readonly sandboxers: ReadonlyMap<string, Sandboxer>;
  readonly events: EventLog;
}

/**
 * The sandbox controller: finds the sandboxer that a request names, asks it, and tells the world.
 *
 * @source containerd v2.3.4 plugins/services/sandbox/controller_service.go
 */
export function sandboxControllerService({ sandboxers, events }: SandboxParts): ServiceBinding {
  const sandboxer = (name: string): Sandboxer => {
    if (name === "") {
      throw new FlotillaError(
        ErrorKind.InvalidArgument,
        `${ErrorKind.InvalidArgument}: sandbox controller name can not be empty`,
      );
    }
    const found = sandboxers.get(name);
    if (found === undefined) {
      throw new FlotillaError(ErrorKind.NotFound, `${ErrorKind.NotFound}: failed to get sandbox controller by ${name}`);
    }
    return found;
  };
  const about = (call: Call, { sandboxId }: { readonly sandboxId: string }): SandboxCall => ({
    namespace: requireNamespace(call),
    id: sandboxId,
    signal: call.signal,
  });
  const publish = async <D extends DescMessage>(
    { namespace, id }: SandboxCall,
    topic: string,
    schema: D,
    event: MessageInitShape<D>,
  ): Promise<void> => {
    const packed = create(AnySchema, { typeUrl: schema.typeName, value: toBinary(schema, create(schema, event)) });
    const messageId = `sandbox/${namespace}/${id}/${randomUUID()}`;
    await events.publish([{ messageId, namespace, topic, event: packed }]);
  };
  const handlers = {
    create: async (request, call) => {
      const sandbox = about(call, request);
      await sandboxer(request.sandboxer).create(sandbox, request);
      await publish(sandbox, "/sandboxes/create", SandboxCreateSchema, { sandboxId: sandbox.id });
      return { sandboxId: sandbox.id };
    },
    start: async (request, call) => {
      const sandbox = about(call, request);
      let chosen: Sandboxer;
      try {
        chosen = sandboxer(request.sandboxer);
      } catch (error) {
        throw wrapFailure(error, `failed to get sandbox controller for ${quote(request.sandboxer)}`);
      }
      const started = await chosen.start(sandbox).catch((error: unknown) => {
        throw wrapFailure(error, `failed to start sandbox ${quote(sandbox.id)}`);
      });
      await publish(sandbox, "/sandboxes/start", SandboxStartSchema, { sandboxId: sandbox.id });
      return started;
    },
    platform: async (request, call) => {
      const platform = await sandboxer(request.sandboxer).platform(about(call, request));
      return platform === undefined ? {} : { platform };
    },
    stop: async (request, call) => {
      await sandboxer(request.sandboxer).stop(about(call, request), request.timeoutSecs);
      return {};
    },
    wait: async (request, call) => {
      const sandbox = about(call, request);
      const { exitStatus, exitedAt } = await sandboxer(request.sandboxer).wait(sandbox);
      const end = { exitStatus, exitedAt: { ...exitedAt, $typeName: "google.protobuf.Timestamp" as const } };
      await publish(sandbox, "/sandboxes/exit", SandboxExitSchema, { sandboxId: sandbox.id, ...end });
      return end;
    },
    status: (request, call) => sandboxer(request.sandboxer).status(about(call, request), request.verbose),
    shutdown: async (request, call) => {
      await sandboxer(request.sandboxer).shutDown(about(call, request));
      return {};
    },
    metrics: async (request, call) => {
      const metrics = await sandboxer(request.sandboxer).metrics(about(call, request));
      return metrics === undefined ? {} : { metrics };
    },
    update: async (request, call) => {
      const sandbox = about(call, request);
      const chosen = sandboxer(request.sandboxer);
      if (request.sandbox === undefined) {
        throw failure(ErrorKind.Unknown, "sandbox can not be nil");
      }
      // Ours have nothing to change: what a pod may use is set by its cgroup.
      await chosen.update?.(sandbox, request);
      return {};
    },
  } satisfies Handlers<typeof Controller>;
  return bindService(Controller, handlers);
}
