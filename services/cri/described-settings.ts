/** Where a daemon keeps its things and where it listens, as the verbose status tells it. */
export interface DescribedPlaces {
  readonly containerdRootDir: string;
  readonly containerdEndpoint: string;
  readonly rootDir: string;
  readonly stateDir: string;
}

/** Names that do not follow from those of the file. @source containerd v2.3.4 internal/cri/config/config.go, tags `json` */
const unruly: Readonly<Record<string, string>> = {
  pod_annotations: "PodAnnotations",
  container_annotations: "ContainerAnnotations",
  ignore_blockio_not_enabled_errors: "ignoreBlockIONotEnabledErrors",
  restrict_oom_score_adj: "restrictOOMScoreAdj",
  enable_unprivileged_icmp: "enableUnprivilegedICMP",
  enable_cdi: "enableCDI",
  enable_criu: "enableCRIU",
  drain_exec_sync_io_timeout: "drainExecSyncIOTimeout",
  privileged_without_host_devices: "privileged_without_host_devices",
  privileged_without_host_devices_all_devices_allowed: "privileged_without_host_devices_all_devices_allowed",
  device_ownership_from_security_context: "device_ownership_from_security_context",
  io_type: "io_type",
};

/** Tables whose keys are names that somebody has chosen, or are a runtime's own. */
const runtimesKey = "runtimes";
const optionsKey = "options";

/**
 * The settings of pods as the verbose status has them: under containerd's names in JSON, which tools read.
 *
 * @param raw - The table of the plugin `runtime`, under the names of the file.
 */
export function describeSettings(
  raw: Readonly<Record<string, unknown>>,
  places: DescribedPlaces,
): Record<string, unknown> {
  return { ...renamed(raw), ...places };
}

function renamed(table: object): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(table).map(([key, value]: [string, unknown]) => [jsonName(key), describeValue(key, value)]),
  );
}

function describeValue(key: string, value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value) || key === optionsKey) {
    return value;
  }
  return key === runtimesKey
    ? Object.fromEntries(Object.entries(value).map(([name, table]: [string, object]) => [name, renamed(table)]))
    : renamed(value);
}

function jsonName(key: string): string {
  return unruly[key] ?? key.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
}
