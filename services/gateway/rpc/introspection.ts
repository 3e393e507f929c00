import { randomUUID } from "node:crypto";
import { mkdir, stat } from "node:fs/promises";
import type { Any } from "@bufbuild/protobuf/wkt";
import { readFileIfThere, replaceFile } from "#base/durable-file.ts";
import { ErrorKind, errorMessage, FlotillaError, failure } from "#base/errors.ts";
import { timestampNow } from "#base/times.ts";
import type { Deprecation } from "#config/manifest.ts";
import { compileFilters } from "#containerd/filter.ts";
import type { NotedDeprecation } from "#fleet/noted-deprecations.ts";
import type {
  Introspection,
  Plugin,
  PluginInfoRequest,
} from "#gen/containerd/services/introspection/v1/introspection_pb.ts";
import type { Handlers } from "#wire/handler.ts";

export interface IntrospectionOptions {
  /** Every plugin of the fleet in the order of the graph, as it is now. */
  readonly plugins: () => readonly Plugin[];
  /** Asks the process that carries a plugin for what the plugin tells for options. */
  readonly inspect: (request: PluginInfoRequest) => Promise<Any | undefined>;
  /** Names this installation for ever, see {@link openServerUuid}. */
  readonly uuid: string;
  /** What has been seen in use since that containerd is going to take away. */
  readonly noted: () => Promise<readonly NotedDeprecation[]>;
  /** What is set that containerd is going to take away. */
  readonly deprecations: readonly Deprecation[];
}

const uuidPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/**
 * Answers `containerd.services.introspection.v1.Introspection`.
 *
 * @source containerd v2.3.4 plugins/services/introspection/local.go
 */
export function introspectionHandlers({
  plugins,
  inspect,
  uuid,
  deprecations,
  noted,
}: IntrospectionOptions): Handlers<typeof Introspection> {
  // They are settings and the machine's, so that they occur when the daemon starts.
  const lastOccurrence = timestampNow();
  return {
    plugins: ({ filters }) => ({ plugins: plugins().filter(compilePluginFilter(filters)) }),
    server: async () => ({
      uuid,
      pid: BigInt(process.pid),
      pidns: await pidNamespace(),
      deprecations: [...deprecations.map((deprecation) => ({ ...deprecation, lastOccurrence })), ...(await noted())],
    }),
    pluginInfo: async (request) => {
      const { type, id, options } = request;
      const plugin = plugins().find((candidate) => candidate.type === type && candidate.id === id);
      if (plugin === undefined) {
        throw failure(ErrorKind.NotFound, `plugin ${type}.${id} not found`);
      }
      if (options !== undefined && plugin.initErr !== undefined) {
        throw failure(ErrorKind.FailedPrecondition, "cannot get extra info, plugin not successfully loaded");
      }
      const extra = options === undefined ? undefined : await inspect(request);
      return { plugin, ...(extra === undefined ? {} : { extra }) };
    },
  };
}

function compilePluginFilter(filters: readonly string[]): (plugin: Plugin) => boolean {
  try {
    const matches = compileFilters(filters);
    return (plugin) =>
      matches(([field]) => (field === "type" ? plugin.type : field === "id" ? plugin.id : "") || undefined);
  } catch (error) {
    throw new FlotillaError(ErrorKind.InvalidArgument, `${ErrorKind.InvalidArgument}: ${errorMessage(error)}`, {
      cause: error,
    });
  }
}

async function pidNamespace(): Promise<bigint> {
  const { ino } = await stat(`/proc/${process.pid}/ns/pid`, { bigint: true });
  return ino;
}

/**
 * Reads the identity of this installation, or makes it at the first start. The file is containerd's own.
 *
 * @throws {@link FlotillaError} `failed_precondition` when the file holds something else.
 */
export async function openServerUuid(pluginDirectory: string): Promise<string> {
  const path = `${pluginDirectory}/uuid`;
  const stored = (await readFileIfThere(path)) ?? "";
  if (stored !== "") {
    if (!uuidPattern.test(stored)) {
      throw failure(ErrorKind.FailedPrecondition, `${path} does not hold a UUID`);
    }
    return stored;
  }
  const made = randomUUID();
  await mkdir(pluginDirectory, { recursive: true, mode: 0o700 });
  await replaceFile(path, made, { mode: 0o666 });
  return made;
}
