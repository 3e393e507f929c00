import { randomUUID } from "node:crypto";
import { create, type DescMessage, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { ErrorKind, FlotillaError, failure, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import type { Changes } from "#fleet/calls/changes.ts";
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
  /** Carries out each call once that changes something. */
  readonly changes: Changes;
}

const { method } = Controller;

/**
 * The sandbox controller: finds the sandboxer that a request names, asks it, and tells the world.
 *
 * @source containerd v2.3.4 plugins/services/sandbox/controller_service.go
 */
export function sandboxControllerService({ sandboxers, events, changes }: SandboxParts): ServiceBinding {
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
  const ofSandbox = ({ sandboxId }: { readonly sandboxId: string }, call: Call): string =>
    `${requireNamespace(call)}/${sandboxId}`;
  /** @param callId - Of the call that makes the event, so that it is told once. */
  const publish = async <D extends DescMessage>(
    { namespace, id }: SandboxCall,
    topic: string,
    schema: D,
    event: MessageInitShape<D>,
    callId: string | undefined,
  ): Promise<void> => {
    const packed = create(AnySchema, { typeUrl: schema.typeName, value: toBinary(schema, create(schema, event)) });
    const messageId = `sandbox/${namespace}/${id}/${callId ?? randomUUID()}`;
    await events.publish([{ messageId, namespace, topic, event: packed }]);
  };
  const handlers = {
    create: changes.once(method.create, ofSandbox, async (request, call, attempt) => {
      const sandbox = { ...about(call, request), attempt };
      await sandboxer(request.sandboxer).create(sandbox, request);
      await publish(sandbox, "/sandboxes/create", SandboxCreateSchema, { sandboxId: sandbox.id }, attempt.id);
      return { sandboxId: sandbox.id };
    }),
    start: changes.once(method.start, ofSandbox, async (request, call, attempt) => {
      const sandbox = { ...about(call, request), attempt };
      let chosen: Sandboxer;
      try {
        chosen = sandboxer(request.sandboxer);
      } catch (error) {
        throw wrapFailure(error, `failed to get sandbox controller for ${quote(request.sandboxer)}`);
      }
      const started = await chosen.start(sandbox).catch((error: unknown) => {
        throw wrapFailure(error, `failed to start sandbox ${quote(sandbox.id)}`);
      });
      await publish(sandbox, "/sandboxes/start", SandboxStartSchema, { sandboxId: sandbox.id }, attempt.id);
      return started;
    }),
    platform: async (request, call) => {
      const platform = await sandboxer(request.sandboxer).platform(about(call, request));
      return platform === undefined ? {} : { platform };
    },
    stop: changes.once(method.stop, undefined, async (request, call) => {
      await sandboxer(request.sandboxer).stop(about(call, request), request.timeoutSecs);
      return {};
    }),
    wait: async (request, call) => {
      const sandbox = about(call, request);
      const { exitStatus, exitedAt } = await sandboxer(request.sandboxer).wait(sandbox);
      const end = { exitStatus, exitedAt: { ...exitedAt, $typeName: "google.protobuf.Timestamp" as const } };
      await publish(sandbox, "/sandboxes/exit", SandboxExitSchema, { sandboxId: sandbox.id, ...end }, call.id?.id);
      return end;
    },
    status: (request, call) => sandboxer(request.sandboxer).status(about(call, request), request.verbose),
    shutdown: changes.once(method.shutdown, ofSandbox, async (request, call, attempt) => {
      await sandboxer(request.sandboxer).shutDown({ ...about(call, request), attempt });
      return {};
    }),
    metrics: async (request, call) => {
      const metrics = await sandboxer(request.sandboxer).metrics(about(call, request));
      return metrics === undefined ? {} : { metrics };
    },
    update: changes.once(method.update, undefined, async (request, call) => {
      const sandbox = about(call, request);
      const chosen = sandboxer(request.sandboxer);
      if (request.sandbox === undefined) {
        throw failure(ErrorKind.Unknown, "sandbox can not be nil");
      }
      // Ours have nothing to change: what a pod may use is set by its cgroup.
      await chosen.update?.(sandbox, request);
      return {};
    }),
  } satisfies Handlers<typeof Controller>;
  return bindService(Controller, handlers);
}
