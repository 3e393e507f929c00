import { create, type DescMessage, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { type Any, AnySchema } from "@bufbuild/protobuf/wkt";
import { ErrorKind, failure } from "#base/errors.ts";
import { formatTomlTable } from "#config/format-document.ts";
import type { PluginSettings } from "#config/settings.ts";
import { OptionsSchema as RuncOptionsSchema } from "#gen/containerd/runc/v1/options_pb.ts";
import { OptionsSchema as GenericOptionsSchema } from "#gen/runtimeoptions/v1/options_pb.ts";

/** One runtime of pods, under the name of its handler. */
export interface RuntimeSettings {
  readonly name: string;
  /** Such as `io.containerd.runc.v2`. */
  readonly type: string;
  /** Path of the shim, "" where it follows from the type. */
  readonly path: string;
  readonly podAnnotations: readonly string[];
  readonly containerAnnotations: readonly string[];
  readonly privilegedWithoutHostDevices: boolean;
  readonly privilegedWithoutHostDevicesAllDevicesAllowed: boolean;
  readonly cgroupWritable: boolean;
  /** File of the OCI specification to start from, "" for none. */
  readonly baseRuntimeSpec: string;
  /** Directory of CNI configurations for its pods, "" for the common one. */
  readonly cniConfDir: string;
  /** 0 for the common value. */
  readonly cniMaxConfNum: number;
  /** "" for that of images. */
  readonly snapshotter: string;
  readonly sandboxer: string;
  /** Options for the shim, packed as the runtime's own message. */
  readonly options: Any | undefined;
  /** Whether its cgroups are made by systemd; undefined for a runtime that is not runc's. */
  readonly systemdCgroup: boolean | undefined;
}

/** @source containerd v2.3.4 plugins/types.go `RuntimeRuncV2` */
const runcType = "io.containerd.runc.v2";

/**
 * Reads the runtimes.
 *
 * @throws {@link FlotillaError} `invalid_argument` with containerd's text for what can't be.
 * @source containerd v2.3.4 internal/cri/config/config.go `ValidateRuntimeConfig`, `GenerateRuntimeOptions`
 */
export function readRuntimes(
  containerd: PluginSettings,
  hasUnifiedCgroups: boolean,
): ReadonlyMap<string, RuntimeSettings> {
  const defaultName = containerd.string("default_runtime_name");
  if (defaultName === "") {
    throw failure(ErrorKind.InvalidArgument, "`default_runtime_name` is empty");
  }
  const tables = containerd.table("runtimes");
  const runtimes = new Map(tables.keys().map((name) => [name, readRuntime(name, tables.table(name))]));
  if (!runtimes.has(defaultName)) {
    throw failure(
      ErrorKind.InvalidArgument,
      `no corresponding runtime configured in \`containerd.runtimes\` for \`containerd\` \`default_runtime_name = "${defaultName}"`,
    );
  }
  for (const runtime of runtimes.values()) {
    if (runtime.cgroupWritable && !hasUnifiedCgroups) {
      throw failure(
        ErrorKind.InvalidArgument,
        `runtime ${runtime.name}: \`cgroup_writable\` is only supported on cgroup v2`,
      );
    }
    if (!runtime.privilegedWithoutHostDevices && runtime.privilegedWithoutHostDevicesAllDevicesAllowed) {
      throw failure(
        ErrorKind.InvalidArgument,
        "`privileged_without_host_devices_all_devices_allowed` requires `privileged_without_host_devices` to be enabled",
      );
    }
  }
  return runtimes;
}

function readRuntime(name: string, table: PluginSettings): RuntimeSettings {
  const type = table.string("runtime_type");
  const ioType = table.string("io_type") || "fifo";
  if (ioType !== "fifo") {
    throw failure(
      ErrorKind.InvalidArgument,
      ioType === "streaming"
        ? `runtime ${name}: \`io_type\` \`streaming\` is not served`
        : "`io_type` can only be `streaming` or `named_pipe`",
    );
  }
  const options = table.has("options") ? table.table("options") : undefined;
  return {
    name,
    type,
    path: table.string("runtime_path"),
    podAnnotations: table.strings("pod_annotations"),
    containerAnnotations: table.strings("container_annotations"),
    privilegedWithoutHostDevices: table.boolean("privileged_without_host_devices"),
    privilegedWithoutHostDevicesAllDevicesAllowed: table.boolean("privileged_without_host_devices_all_devices_allowed"),
    cgroupWritable: table.boolean("cgroup_writable"),
    baseRuntimeSpec: table.string("base_runtime_spec"),
    cniConfDir: table.string("cni_conf_dir"),
    cniMaxConfNum: table.integer("cni_max_conf_num"),
    snapshotter: table.string("snapshotter"),
    sandboxer: table.string("sandboxer") || "podsandbox",
    options: options === undefined ? undefined : packOptions(type, options),
    systemdCgroup: type === runcType && options !== undefined ? optionOf(options, "systemdcgroup") === true : undefined,
  };
}

function packOptions(type: string, options: PluginSettings): Any {
  if (type === runcType) {
    return pack(RuncOptionsSchema, fill(RuncOptionsSchema, options));
  }
  const generic = fill(GenericOptionsSchema, options);
  if (generic.configPath === "") {
    generic.configBody = Buffer.from(formatTomlTable(options.raw()));
  }
  return pack(GenericOptionsSchema, generic);
}

function pack<D extends DescMessage>(schema: D, message: MessageShape<D>): Any {
  return create(AnySchema, { typeUrl: schema.typeName, value: toBinary(schema, message) });
}

function optionOf(options: PluginSettings, lowerCaseName: string): unknown {
  return Object.entries(options.raw()).find(([key]) => key.toLowerCase() === lowerCaseName)?.[1];
}

/** Fills a message from a table whose keys are names of Go fields in any case. */
function fill<D extends DescMessage>(schema: D, options: PluginSettings): MessageShape<D> {
  const message = create(schema);
  for (const field of schema.fields) {
    const value = optionOf(options, field.localName.toLowerCase());
    if (value !== undefined && field.fieldKind === "scalar") {
      const { [field.localName]: before } = message as Record<string, unknown>;
      if (typeof value !== typeof before) {
        throw failure(ErrorKind.InvalidArgument, `option ${field.localName}: expected a ${typeof before}`);
      }
      Object.assign(message, { [field.localName]: value });
    }
  }
  return message;
}
