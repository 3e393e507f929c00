import { ErrorKind, FlotillaError } from "#base/errors.ts";
import type { LinuxContainerAdjustment, LinuxCPU, LinuxResources } from "#gen/nri/pkg/api/v1alpha1/api_pb.ts";
import type { OciDeviceRule, OciLinux, OciResources } from "../../containers/spec/oci-spec.ts";

/**
 * Changes the resources and the classes of a specification as plugins want them.
 *
 * @param withoutHugepages - Whether limits of huge pages are left out.
 * @throws {@link FlotillaError} `unknown` for a class of block I/O: there is no configuration of such classes here.
 * @source containerd/nri v0.12 pkg/runtime-tools/generate/generate.go `AdjustResources`, `AdjustRdt`, `AdjustBlockIOClass`
 */
export function adjustResources(
  linux: OciLinux,
  { resources, rdt }: LinuxContainerAdjustment,
  withoutHugepages: boolean,
): void {
  if (resources !== undefined) {
    mergeIntoSpec((linux.resources ??= {}), resources);
    if (withoutHugepages) {
      delete linux.resources.hugepageLimits;
    }
    adjustClasses(linux, resources);
  }
  if (rdt !== undefined) {
    if (rdt.remove) {
      delete linux.intelRdt;
    }
    const changes = {
      ...(rdt.closId === undefined ? {} : { closID: rdt.closId.value }),
      ...(rdt.schemata === undefined ? {} : { schemata: rdt.schemata.value }),
      ...(rdt.enableMonitoring === undefined ? {} : { enableMonitoring: rdt.enableMonitoring.value }),
    };
    if (Object.keys(changes).length > 0) {
      linux.intelRdt = { ...linux.intelRdt, ...changes };
    }
  }
}

function mergeIntoSpec(target: OciResources, wanted: LinuxResources): void {
  if (wanted.cpu !== undefined) {
    target.cpu = { ...target.cpu, ...cpuOf(wanted.cpu) };
  }
  const limit = wanted.memory?.limit?.value ?? 0n;
  if (limit !== 0n) {
    target.memory = { ...target.memory, limit, swap: limit };
  }
  for (const { pageSize, limit: pages } of wanted.hugepageLimits) {
    const others = (target.hugepageLimits ?? []).filter((one) => one.pageSize !== pageSize);
    target.hugepageLimits = [...others, { pageSize, limit: pages }];
  }
  if (Object.keys(wanted.unified).length > 0) {
    target.unified = { ...target.unified, ...wanted.unified };
  }
  if (wanted.pids !== undefined) {
    target.pids = { limit: wanted.pids.limit };
  }
  const rules = wanted.devices.map(
    ({ allow, type, major, minor, access }): OciDeviceRule => ({
      allow,
      ...(type === "" ? {} : { type }),
      ...(major === undefined ? {} : { major: Number(major.value) }),
      ...(minor === undefined ? {} : { minor: Number(minor.value) }),
      ...(access === "" ? {} : { access }),
    }),
  );
  if (rules.length > 0) {
    target.devices = [...(target.devices ?? []), ...rules];
  }
}

function cpuOf(cpu: LinuxCPU): NonNullable<OciResources["cpu"]> {
  const numbers = ["shares", "quota", "period", "realtimeRuntime", "realtimePeriod"] as const;
  return {
    ...Object.fromEntries(numbers.flatMap((name) => (cpu[name] === undefined ? [] : [[name, cpu[name].value]]))),
    ...(cpu.cpus === "" ? {} : { cpus: cpu.cpus }),
    ...(cpu.mems === "" ? {} : { mems: cpu.mems }),
  };
}

function adjustClasses(linux: OciLinux, { blockioClass, rdtClass }: LinuxResources): void {
  if (blockioClass?.value === "") {
    delete linux.resources?.blockIO;
  } else if (blockioClass !== undefined) {
    throw new FlotillaError(
      ErrorKind.Unknown,
      `failed to adjust BlockIO class in OCI Spec: class "${blockioClass.value}" is not configured`,
    );
  }
  if (rdtClass?.value === "") {
    delete linux.intelRdt;
  } else if (rdtClass !== undefined) {
    linux.intelRdt = { closID: rdtClass.value };
  }
}
