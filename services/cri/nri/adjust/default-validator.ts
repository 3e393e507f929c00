import { ErrorKind, FlotillaError } from "#base/errors.ts";
import {
  Field,
  type PodSandbox,
  SecurityProfile_ProfileType,
  type ValidateContainerAdjustmentRequest,
} from "#gen/nri/pkg/api/v1alpha1/api_pb.ts";

/** What plugins may not change. @source containerd/nri v0.12 plugins/default-validator/default-validator.go `DefaultValidatorConfig` */
export interface ValidatorSettings {
  readonly rejectsHooks: boolean;
  readonly rejectsRuntimeDefaultSeccomp: boolean;
  readonly rejectsUnconfinedSeccomp: boolean;
  readonly rejectsCustomSeccomp: boolean;
  readonly rejectsNamespaces: boolean;
  readonly rejectsSysctls: boolean;
  /** Plugins without which no container is made. */
  readonly requiredPlugins: readonly string[];
  /** Annotation by which a pod does without them; empty for none. */
  readonly tolerateMissingAnnotation: string;
}

/** Annotation by which a pod requires further plugins. @source containerd/nri v0.12 pkg/plugin/annotations.go */
const requiredAnnotation = "required-plugins.noderesource.dev";

/**
 * Judges what all plugins together change of a container.
 *
 * @throws {@link FlotillaError} `unknown` when something of it is not to be, or a plugin is missing.
 * @source containerd/nri v0.12 plugins/default-validator/default-validator.go `ValidateContainerAdjustment`
 */
export function validateAdjustment(settings: ValidatorSettings, request: ValidateContainerAdjustmentRequest): void {
  const owners = request.owners?.owners[request.container?.id ?? ""];
  const hooks = owners?.simple[Field.OciHooks];
  if (settings.rejectsHooks && hooks !== undefined) {
    throw rejected(`plugin${hooks.includes(",") ? "s" : ""} "${hooks}" attempted restricted OCI hook injection`);
  }
  checkSeccomp(settings, request, owners?.simple[Field.SeccompPolicy]);
  const namespaces = Object.entries(owners?.compound[Field.Namespace]?.owners ?? {});
  if (settings.rejectsNamespaces && namespaces.length > 0) {
    const who = namespaces.map(([name, plugin]) => `"${plugin}" (namespace "${name}")`).join(", ");
    throw rejected(`attempted restricted namespace adjustment by plugin(s) ${who}`);
  }
  checkRequiredPlugins(settings, request);
  const sysctls = owners?.compound[Field.Sysctl]?.owners ?? {};
  const changed = Object.keys(request.adjust?.linux?.sysctl ?? {}).flatMap((name) => sysctls[name] ?? []);
  if (settings.rejectsSysctls && changed.length > 0) {
    throw rejected(`attempted restricted sysctl adjustment by plugin(s) ${changed.join(", ")}`);
  }
}

function checkSeccomp(
  settings: ValidatorSettings,
  { container }: ValidateContainerAdjustmentRequest,
  owner: string | undefined,
): void {
  if (owner === undefined) {
    return;
  }
  const type = container?.linux?.seccompProfile?.profileType ?? SecurityProfile_ProfileType.UNCONFINED;
  const [isRejected, what] =
    type === SecurityProfile_ProfileType.RUNTIME_DEFAULT
      ? [settings.rejectsRuntimeDefaultSeccomp, "runtime default"]
      : type === SecurityProfile_ProfileType.LOCALHOST
        ? [settings.rejectsCustomSeccomp, " custom"]
        : [settings.rejectsUnconfinedSeccomp, " unconfined"];
  if (isRejected) {
    throw rejected(`plugin ${owner} attempted restricted ${what} seccomp policy adjustment`);
  }
}

function checkRequiredPlugins(settings: ValidatorSettings, request: ValidateContainerAdjustmentRequest): void {
  const containerName = request.container?.name ?? "";
  const tolerance = annotationFor(request.pod, settings.tolerateMissingAnnotation, containerName);
  if (tolerance !== undefined && /^(?:1|t|T|TRUE|true|True)$/.test(tolerance)) {
    return;
  }
  const wanted = annotationFor(request.pod, requiredAnnotation, containerName);
  const required = [...settings.requiredPlugins, ...(wanted === undefined ? [] : listOf(wanted))];
  const present = new Set(request.plugins.flatMap(({ name, index }) => [name, `${index}-${name}`]));
  const missing = required.filter((name) => !present.has(name));
  if (missing.length > 0) {
    throw rejected(`required plugin${missing.length > 1 ? "s" : ""} "${missing.join(",")}" not present`);
  }
}

/** An annotation of a pod: for one container, for the pod, or for all. @source containerd/nri v0.12 pkg/plugin/annotations.go `GetEffectiveAnnotation` */
function annotationFor(pod: PodSandbox | undefined, key: string, container: string): string | undefined {
  if (key === "") {
    return undefined;
  }
  const annotations = pod?.annotations ?? {};
  return annotations[`${key}/container.${container}`] ?? annotations[`${key}/pod`] ?? annotations[key];
}

/** A list as annotations have it: in brackets, or a dash before each. */
function listOf(text: string): string[] {
  return text
    .replace(/^\s*\[|\]\s*$/g, "")
    .split(/[\n,]/)
    .map((item) =>
      item
        .trim()
        .replace(/^-\s*/, "")
        .replace(/^["']|["']$/g, ""),
    )
    .filter((item) => item !== "");
}

function rejected(why: string): FlotillaError {
  return new FlotillaError(ErrorKind.Unknown, `validation error: ${why}`);
}
