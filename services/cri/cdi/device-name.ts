import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { quote } from "#base/quote.ts";

/** Prefix of annotations that ask for devices. @source container-device-interface v1.1 pkg/cdi/annotations.go `AnnotationPrefix` */
const annotationPrefix = "cdi.k8s.io/";

const vendorOrClass = /^[A-Za-z]([A-Za-z0-9_.-]*[A-Za-z0-9])?$/;
const deviceName = /^[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?$/;

/** Tells whether a name can be that of a vendor, or of a class of devices. @source container-device-interface v1.1 pkg/parser/parser.go `validateVendorOrClassName` */
export function isVendorOrClass(name: string): boolean {
  return vendorOrClass.test(name);
}

/** Tells whether a name can be that of a device among those of its class. @source container-device-interface v1.1 pkg/parser/parser.go `ValidateDeviceName` */
export function isDeviceName(name: string): boolean {
  return deviceName.test(name);
}

/** Tells whether a name is whole: `vendor/class=device`. @source container-device-interface v1.1 pkg/parser/parser.go `ParseQualifiedName` */
export function isQualifiedName(name: string): boolean {
  const [, vendor = "", ofClass = "", device = ""] = /^([^/=]*)\/([^=]*)=(.*)$/s.exec(name) ?? [];
  return isVendorOrClass(vendor) && isVendorOrClass(ofClass) && isDeviceName(device);
}

/**
 * The devices that a container asks for, by its field and by annotations, each once.
 *
 * @throws {@link FlotillaError} `unknown` for an annotation that names none.
 * @source containerd v2.3.4 internal/cri/opts/spec_linux.go `WithCDI`
 */
export function wantedDevices(
  devices: readonly { readonly name: string }[],
  annotations: Readonly<Record<string, string>>,
): string[] {
  const annotated = Object.entries(annotations)
    .filter(([key]) => key.startsWith(annotationPrefix))
    .flatMap(([, value]) => value.split(","));
  const wrong = annotated.find((name) => !isQualifiedName(name));
  if (wrong !== undefined) {
    throw new FlotillaError(
      ErrorKind.Unknown,
      `failed to parse CDI device annotations: invalid CDI device name ${quote(wrong)}`,
    );
  }
  return [...new Set([...devices.map(({ name }) => name), ...annotated])];
}
