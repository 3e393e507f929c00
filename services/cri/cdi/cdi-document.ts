import { quote } from "#base/quote.ts";
import { isDeviceName, isVendorOrClass } from "./device-name.ts";
import { checkShape, type Shape } from "./document-shape.ts";

/** What a device changes of a specification. @source container-device-interface v1.1 specs-go/config.go `ContainerEdits` */
export interface ContainerEdits {
  readonly env?: readonly string[];
  readonly deviceNodes?: readonly DeviceNode[];
  readonly netDevices?: readonly { readonly hostInterfaceName?: string; readonly name?: string }[];
  readonly hooks?: readonly Hook[];
  readonly mounts?: readonly Mount[];
  readonly intelRdt?: IntelRdt;
  readonly additionalGids?: readonly number[];
}

export interface DeviceNode {
  readonly path?: string;
  readonly hostPath?: string;
  readonly type?: string;
  readonly major?: number;
  readonly minor?: number;
  readonly fileMode?: number;
  readonly permissions?: string;
  readonly uid?: number;
  readonly gid?: number;
}

interface Hook {
  readonly hookName?: string;
  readonly path?: string;
  readonly args?: readonly string[];
  readonly env?: readonly string[];
  readonly timeout?: number;
}

interface Mount {
  readonly hostPath?: string;
  readonly containerPath?: string;
  readonly options?: readonly string[];
  readonly type?: string;
}

interface IntelRdt {
  readonly closID?: string;
  readonly l3CacheSchema?: string;
  readonly memBwSchema?: string;
  readonly schemata?: readonly string[];
  readonly enableMonitoring?: boolean;
}

interface Device {
  readonly name: string;
  readonly annotations: Readonly<Record<string, string>>;
  readonly containerEdits: ContainerEdits;
}

/** A file that describes the devices of one class of one vendor. */
export interface CdiDocument {
  readonly cdiVersion: string;
  /** `vendor/class` */
  readonly kind: string;
  readonly annotations: Readonly<Record<string, string>>;
  readonly devices: readonly Device[];
  /** Made once for a container that gets one or several of the devices. */
  readonly containerEdits: ContainerEdits;
}

const texts: Shape = { list: "string" };

const editsShape: Shape = {
  fields: {
    env: texts,
    deviceNodes: {
      list: {
        fields: {
          path: "string",
          hostPath: "string",
          type: "string",
          major: "integer",
          minor: "integer",
          fileMode: "id",
          permissions: "string",
          uid: "id",
          gid: "id",
        },
      },
    },
    netDevices: { list: { fields: { hostInterfaceName: "string", name: "string" } } },
    hooks: { list: { fields: { hookName: "string", path: "string", args: texts, env: texts, timeout: "integer" } } },
    mounts: { list: { fields: { hostPath: "string", containerPath: "string", options: texts, type: "string" } } },
    intelRdt: {
      fields: {
        closID: "string",
        l3CacheSchema: "string",
        memBwSchema: "string",
        schemata: texts,
        enableMonitoring: "boolean",
      },
    },
    additionalGids: { list: "id" },
  },
};

const documentShape: Shape = {
  fields: {
    cdiVersion: "string",
    kind: "string",
    annotations: "texts",
    devices: { list: { fields: { name: "string", annotations: "texts", containerEdits: editsShape } } },
    containerEdits: editsShape,
  },
};

/** In ascending order. @source container-device-interface v1.1 specs-go/version.go `validSpecVersions` */
const versions = ["0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"];

/** @source opencontainers/runtime-spec v1.3.0 config.md, POSIX-platform hooks */
const hookNames = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
const closIdLengthMax = 4095;

/**
 * Judges a document that has been read.
 *
 * @throws {Error} which says what is wrong, in the words of containerd's library where it has some.
 * @source container-device-interface v1.1 pkg/cdi/spec.go `validate`, device.go `validate`, container-edits.go `Validate`
 */
export function checkDocument(value: unknown): CdiDocument {
  const document = complete(checkShape(documentShape, value) as WrittenDocument);
  requireVersion(document);
  const [vendor = "", ...rest] = document.kind.split("/");
  for (const [what, name] of [
    ["vendor", vendor],
    ["class", rest.join("/")],
  ] as const) {
    if (!isVendorOrClass(name)) {
      throw new Error(`invalid ${what} ${quote(name)}`);
    }
  }
  checkEdits(document.containerEdits);
  const names = new Set<string>();
  for (const { name, containerEdits } of document.devices) {
    if (!isDeviceName(name)) {
      throw new Error(`invalid device name ${quote(name)}`);
    }
    if (names.has(name)) {
      throw new Error(`invalid spec, multiple device ${quote(name)}`);
    }
    names.add(name);
    if (isEmpty(containerEdits)) {
      throw new Error(`failed add device ${quote(name)}: invalid device, empty device edits`);
    }
    checkEdits(containerEdits);
  }
  if (names.size === 0) {
    throw new Error("invalid spec, no devices");
  }
  return document;
}

type WrittenDocument = Partial<Omit<CdiDocument, "devices">> & { readonly devices?: readonly Partial<Device>[] };

/** What a document does not say is empty. */
function complete({
  cdiVersion = "",
  kind = "",
  devices = [],
  containerEdits = {},
  annotations = {},
}: WrittenDocument) {
  return {
    cdiVersion,
    kind,
    annotations,
    containerEdits,
    devices: devices.map((device) => ({ name: "", containerEdits: {}, annotations: {}, ...device })),
  };
}

function requireVersion({ cdiVersion, kind, annotations, devices, containerEdits }: CdiDocument): void {
  const version = cdiVersion.replace(/^v/, "");
  if (!versions.includes(version)) {
    throw new Error(`invalid version ${quote(cdiVersion)}`);
  }
  const all = [containerEdits, ...devices.map((device) => device.containerEdits)];
  const has = (uses: (edits: ContainerEdits) => boolean): boolean => all.some(uses);
  const isAnnotated = [annotations, ...devices.map((device) => device.annotations)].some(
    (notes) => Object.keys(notes).length > 0,
  );
  const needed = has(
    ({ intelRdt, netDevices }) =>
      intelRdt?.schemata !== undefined || intelRdt?.enableMonitoring === true || (netDevices?.length ?? 0) > 0,
  )
    ? "1.1.0"
    : has(({ intelRdt, additionalGids }) => intelRdt !== undefined || (additionalGids?.length ?? 0) > 0)
      ? "0.7.0"
      : isAnnotated || kind.slice(kind.indexOf("/") + 1).includes(".")
        ? "0.6.0"
        : devices.some(({ name }) => /^\d/.test(name)) ||
            has(({ deviceNodes }) => deviceNodes?.some(({ hostPath = "" }) => hostPath !== "") === true)
          ? "0.5.0"
          : has(({ mounts }) => mounts?.some(({ type = "" }) => type !== "") === true)
            ? "0.4.0"
            : "0.3.0";
  if (versions.indexOf(needed) > versions.indexOf(version)) {
    throw new Error(`the spec version must be at least v${needed}`);
  }
}

function isEmpty(edits: ContainerEdits): boolean {
  return Object.values(edits).every((part) => Array.isArray(part) && part.length === 0);
}

function checkEdits({ env, deviceNodes, netDevices, hooks, mounts, intelRdt }: ContainerEdits): void {
  checkEnvironment(env, "container edits");
  for (const { path = "", type = "", permissions = "" } of deviceNodes ?? []) {
    if (path === "") {
      throw new Error("invalid (empty) device path");
    }
    if (!["", "b", "c", "u", "p"].includes(type)) {
      throw new Error(`device ${quote(path)}: invalid type ${quote(type)}`);
    }
    if (!/^[rwm]*$/.test(permissions)) {
      throw new Error(`device ${quote(path)}: invalid permissions ${quote(permissions)}`);
    }
  }
  for (const { hookName = "", path = "", env: variables } of hooks ?? []) {
    if (!hookNames.includes(hookName)) {
      throw new Error(`invalid hook name ${quote(hookName)}`);
    }
    if (path === "") {
      throw new Error(`invalid hook ${quote(hookName)} with empty path`);
    }
    checkEnvironment(variables, `hook ${quote(hookName)}`);
  }
  for (const { hostPath = "", containerPath = "" } of mounts ?? []) {
    if (hostPath === "" || containerPath === "") {
      throw new Error(`invalid mount, empty ${hostPath === "" ? "host" : "container"} path`);
    }
  }
  const closId = intelRdt?.closID ?? "";
  if (closId !== "/" && (closId.length > closIdLengthMax || [".", ".."].includes(closId) || /[/\n]/.test(closId))) {
    throw new Error("invalid ClosID");
  }
  for (const key of ["hostInterfaceName", "name"] as const) {
    const names = (netDevices ?? []).map((device) => device[key] ?? "");
    const what = key === "name" ? "Name" : "HostInterfaceName";
    if (names.includes("")) {
      throw new Error(`invalid linux net device, empty ${what}`);
    }
    if (new Set(names).size < names.length) {
      throw new Error(`invalid linux net device, duplicate ${what}`);
    }
  }
}

function checkEnvironment(env: readonly string[] | undefined, where: string): void {
  const wrong = env?.find((variable) => variable.indexOf("=") <= 0);
  if (wrong !== undefined) {
    throw new Error(`invalid ${where}: invalid environment variable ${quote(wrong)}`);
  }
}
