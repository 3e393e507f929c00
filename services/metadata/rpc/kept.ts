import { MethodOptions_IdempotencyLevel as Idempotency } from "@bufbuild/protobuf/wkt";
import type { ServiceBinding } from "#wire/handler.ts";
import type { OneAnswer } from "#wire/method-table.ts";
import type { KeptCalls } from "../store/kept-calls.ts";

/** Has the changes of a service kept, so that its calls can be made again: of those methods whose .proto says that they may be. */
export function keepCalls(calls: KeptCalls, { service, handlers }: ServiceBinding): ServiceBinding {
  const kept: Record<string, unknown> = { ...handlers };
  for (const method of service.methods) {
    const handler = handlers[method.localName] as OneAnswer | undefined;
    if (handler !== undefined && method.idempotency === Idempotency.IDEMPOTENT) {
      const answer: OneAnswer = (request, call) => {
        const { id } = call;
        return id === undefined ? handler(request, call) : calls.answer(id, () => handler(request, call));
      };
      kept[method.localName] = answer;
    }
  }
  return { service, handlers: kept };
}
