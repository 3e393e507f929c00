import { create } from "@bufbuild/protobuf";
import { ErrorKind } from "#base/errors.ts";
import type { ProcessName } from "#fleet/process-name.ts";
import { type Plugin, PluginSchema } from "#gen/containerd/services/introspection/v1/introspection_pb.ts";
import { StatusSchema } from "#gen/google/rpc/status_pb.ts";
import { codeOf } from "#wire/errors.ts";
import { sortPlugins } from "./plugin-graph.ts";

/** What every process of the fleet has told about its plugins. */
export class PluginRegistry {
  readonly #byProcess = new Map<ProcessName, readonly Plugin[]>();
  #sorted: readonly Plugin[] | undefined;

  /** Takes over what a process tells of itself, in place of what it told before. */
  record(process: ProcessName, plugins: readonly Plugin[]): void {
    this.#byProcess.set(process, plugins);
    this.#sorted = undefined;
  }

  /** Marks the plugins of a process that is given up as failed. */
  fail(process: ProcessName, reason: string): void {
    const initErr = create(StatusSchema, { code: codeOf(ErrorKind.Unavailable), message: reason });
    const plugins = this.#byProcess.get(process) ?? [];
    this.record(
      process,
      plugins.map((plugin) => create(PluginSchema, { ...plugin, initErr })),
    );
  }

  /** The process that carries a plugin. */
  ownerOf({ type, id }: Pick<Plugin, "type" | "id">): ProcessName | undefined {
    for (const [process, plugins] of this.#byProcess) {
      if (plugins.some((plugin) => plugin.type === type && plugin.id === id)) {
        return process;
      }
    }
    return undefined;
  }

  /** Every plugin of the fleet, in the order of the graph. */
  all(): readonly Plugin[] {
    this.#sorted ??= sortPlugins([...this.#byProcess.values()].flat());
    return this.#sorted;
  }
}
