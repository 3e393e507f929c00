import type { OciDevice, OciDeviceRule, OciLinux } from "./oci-spec.ts";

/** Devices of the machine that a container wants, found below one path. */
export interface DeviceWish {
  readonly devices: readonly OciDevice[];
  /** Of `r`, `w` and `m`, those that it may do with them. */
  readonly permissions: string;
}

/**
 * Gives a container devices and lets it use them.
 *
 * @param owner - Who they belong to in the container, where that is not who they belong to on the machine; 0 for no change.
 * @source containerd v2.3.4 internal/cri/opts/spec_linux_opts.go `WithDevices`
 */
export function addDevices(
  linux: OciLinux,
  wishes: readonly DeviceWish[],
  owner: { readonly uid: number; readonly gid: number },
): void {
  const rules = allowingRules(wishes);
  const devices = wishes
    .flatMap(({ devices }) => devices)
    .map((device) => ({
      ...device,
      ...(owner.uid === 0 ? {} : { uid: owner.uid }),
      ...(owner.gid === 0 ? {} : { gid: owner.gid }),
    }));
  if (devices.length > 0) {
    linux.devices = [...(linux.devices ?? []), ...devices];
  }
  linux.resources = { ...linux.resources, devices: [...(linux.resources?.devices ?? []), ...rules] };
}

function allowingRules(wishes: readonly DeviceWish[]): OciDeviceRule[] {
  return wishes.flatMap(({ devices, permissions }) =>
    devices.map(({ type, major, minor }) => ({ allow: true, type, major, minor, access: permissions })),
  );
}

/** Lets a container use every device. @source containerd v2.3.4 pkg/oci/spec_opts.go `WithAllDevicesAllowed` */
export function allowAllDevices(linux: OciLinux): void {
  linux.resources = { ...linux.resources, devices: [{ allow: true, access: "rwm" }] };
}
