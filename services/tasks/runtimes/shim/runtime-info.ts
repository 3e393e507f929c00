import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type Any, AnySchema } from "@bufbuild/protobuf/wkt";
import { ErrorKind, failure } from "#base/errors.ts";
import { RuntimeInfoSchema, RuntimeRequestSchema } from "#gen/containerd/types/introspection_pb.ts";
import type { ShimManager } from "../../shims/shim-manager.ts";

/**
 * Answers what a runtime can do: its version, and the features of the OCI runtime below it.
 *
 * @param options - A `containerd.types.RuntimeRequest`, which names the runtime and may carry options for it.
 * @throws {@link FlotillaError} `not_implemented` for another request; `unknown` with containerd's text when the runtime is not there or
 *   says nothing.
 * @source containerd v2.3.4 core/runtime/v2/task_manager.go `PluginInfo`
 */
export async function inspectRuntime(shims: ShimManager, options: Any): Promise<Any> {
  if (options.typeUrl.slice(options.typeUrl.lastIndexOf("/") + 1) !== RuntimeRequestSchema.typeName) {
    throw failure(ErrorKind.NotImplemented, `unknown request type ${options.typeUrl}`);
  }
  const request = fromBinary(RuntimeRequestSchema, options.value);
  const info = await shims.info(request.runtimePath, request.options);
  return create(AnySchema, { typeUrl: RuntimeInfoSchema.typeName, value: toBinary(RuntimeInfoSchema, info) });
}
