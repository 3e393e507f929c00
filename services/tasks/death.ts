import { create, type DescMessage, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { timestampNow } from "#base/times.ts";
import { TaskDeleteSchema, TaskExitSchema } from "#gen/containerd/events/task_pb.ts";
import type { TaskEvent } from "./domain/ports.ts";
import type { TaskExit } from "./domain/supervisor.ts";
import type { Bundle } from "./shims/bundles.ts";

/** Exit status of a container of which nobody knows how it ended. @source containerd v2.3.4 core/runtime/v2/shim.go `cleanupAfterDeadShim` */
const unknownExitStatus = 255;

/**
 * The events of a task whose supervisor died: its exit, then its deletion.
 *
 * @param incarnation - Tells this task from others of its name, so that the events are the same however often they are made.
 * @param exit - What cleaning up found out; undefined for nothing.
 * @source containerd v2.3.4 core/runtime/v2/shim.go `cleanupAfterDeadShim`
 */
export function deathEvents(
  { namespace, id }: Pick<Bundle, "namespace" | "id">,
  incarnation: string,
  exit: TaskExit | undefined,
): TaskEvent[] {
  const end = {
    containerId: id,
    pid: exit?.pid ?? 0,
    exitStatus: exit?.exitStatus ?? unknownExitStatus,
    exitedAt: exit?.exitedAt ?? timestampNow(),
  };
  const messageId = `task/${namespace}/${id}/${incarnation}`;
  return [
    { messageId: `${messageId}/exit`, namespace, topic: "/tasks/exit", event: pack(TaskExitSchema, { ...end, id }) },
    { messageId: `${messageId}/delete`, namespace, topic: "/tasks/delete", event: pack(TaskDeleteSchema, end) },
  ];
}

/** Types are named without a prefix, which is how containerd's clients compare them. */
function pack<D extends DescMessage>(schema: D, message: MessageInitShape<D>) {
  return create(AnySchema, { typeUrl: schema.typeName, value: toBinary(schema, create(schema, message)) });
}
