import type { DescMethodUnary, DescService, MessageInitShape } from "@bufbuild/protobuf";
import type { Changes } from "#fleet/calls/changes.ts";
import type { Handlers, UnaryHandler } from "#wire/handler.ts";

/**
 * Handlers that keep their answers for calls that are made again because this process died. One that died amid them leaves a call that is
 * carried out again from the beginning, so these are calls that may be repeated. Their answers are messages that are not encoded yet.
 *
 * @param names - Which of the handlers.
 */
export function carriedOutOnce<S extends DescService, H extends Partial<Handlers<S>>>(
  service: S,
  handlers: H,
  names: readonly (string & keyof H)[],
  changes: Changes,
): H {
  const kept: Record<string, unknown> = {};
  for (const name of names) {
    const handler = handlers[name] as UnaryHandler<DescMethodUnary["input"], DescMethodUnary["output"]>;
    kept[name] = changes.once(service.method[name] as DescMethodUnary, undefined, async (request, call) => {
      return (await handler(request, call)) as MessageInitShape<DescMethodUnary["output"]>;
    });
  }
  return { ...handlers, ...kept };
}
