import { create } from "@bufbuild/protobuf";
import {
  type Container,
  type ContainerAdjustment,
  ContainerAdjustmentSchema,
  type ContainerUpdate,
  type CreateContainerRequest,
  type CreateContainerResponse,
  CreateContainerResponseSchema,
  Field,
  type Hooks,
  HooksSchema,
  type LinuxContainer,
  type LinuxContainerAdjustment,
  LinuxContainerAdjustmentSchema,
  LinuxContainerSchema,
  LinuxRdtSchema,
} from "#gen/nri/pkg/api/v1alpha1/api_pb.ts";
import { mergeLists, mergeMaps, type NamedChanges } from "./changes.ts";
import { Owners, readMark } from "./owners.ts";
import { emptyResources, mergeResources } from "./resources.ts";
import { UpdateResult } from "./update-result.ts";

/** Parts of a container that a plugin sets as a whole. */
const wholeParts = {
  oomScoreAdj: Field.OomScoreAdj,
  ioPriority: Field.IoPriority,
  seccompPolicy: Field.SeccompPolicy,
  scheduler: Field.LinuxSched,
} as const;
const hookKinds = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] as const;

/**
 * What all plugins together change of a container that is about to be made. Each sees the container as those before it left it.
 *
 * @source containerd/nri v0.12 pkg/adaptation/result.go `collectCreateContainerResult`, `adjust`
 */
export class CreateResult {
  readonly owners = new Owners();
  readonly #container: Container;
  readonly #linux: LinuxContainer;
  readonly #adjust: ContainerAdjustment;
  readonly #linuxAdjust: LinuxContainerAdjustment;
  readonly #updates: UpdateResult;

  /** @param request - Its container is changed as plugins ask for it. */
  constructor(request: CreateContainerRequest) {
    if (request.container === undefined) {
      throw new Error("a request without a container");
    }
    this.#container = request.container;
    this.#container.hooks ??= create(HooksSchema);
    this.#linux = this.#container.linux ??= create(LinuxContainerSchema);
    this.#linux.resources ??= emptyResources();
    this.#linuxAdjust = create(LinuxContainerAdjustmentSchema, { resources: emptyResources() });
    this.#adjust = create(ContainerAdjustmentSchema, { hooks: create(HooksSchema), linux: this.#linuxAdjust });
    this.#updates = new UpdateResult({ owners: this.owners, creatingId: this.#container.id });
  }

  /** What came of it. */
  get response(): CreateContainerResponse {
    return create(CreateContainerResponseSchema, { adjust: this.#adjust, update: this.#updates.updates });
  }

  /** Adds what a plugin answered. @throws {@link FlotillaError} when another plugin has changed the same. */
  apply(
    {
      adjust,
      update,
    }: { readonly adjust?: ContainerAdjustment | undefined; readonly update: readonly ContainerUpdate[] },
    plugin: string,
  ): void {
    if (adjust !== undefined) {
      this.#adjustContainer(adjust, plugin);
      if (adjust.linux !== undefined) {
        this.#adjustLinux(adjust.linux, plugin);
      }
    }
    this.#updates.apply(update, plugin);
  }

  #adjustContainer(wanted: ContainerAdjustment, plugin: string): void {
    const [container, adjust] = [this.#container, this.#adjust];
    mergeMaps(wanted.annotations, {
      collected: adjust.annotations,
      present: container.annotations,
      owners: this.#named(Field.Annotations, plugin),
    });
    const mounts = mergeLists(wanted.mounts, {
      earlier: adjust.mounts,
      present: container.mounts,
      nameOf: ({ destination }) => destination,
      nameOfPresent: ({ destination }) => destination,
      asPresent: (mount) => mount,
      owners: this.#named(Field.Mounts, plugin),
    });
    [adjust.mounts, container.mounts] = [mounts.changes, mounts.present];
    const env = mergeLists(wanted.env, {
      earlier: adjust.env,
      present: container.env,
      nameOf: ({ key }) => key,
      nameOfPresent: (variable) => variable.split("=", 1)[0] ?? "",
      asPresent: ({ key, value }) => `${key}=${value}`,
      owners: this.#named(Field.Env, plugin),
    });
    [adjust.env, container.env] = [env.changes, env.present];
    this.#adjustArgs(wanted.args, plugin);
    this.#adjustHooks(wanted.hooks, plugin);
    for (const limit of wanted.rlimits) {
      this.owners.claim(container.id, Field.Rlimits, plugin, limit.type);
      container.rlimits.push(limit);
      adjust.rlimits.push(limit);
    }
    for (const device of wanted.CDIDevices) {
      this.owners.claim(container.id, Field.CdiDevices, plugin, device.name);
      adjust.CDIDevices.push(device);
    }
  }

  /** An empty word before the others says that those of another plugin may be replaced. */
  #adjustArgs([first, ...rest]: readonly string[], plugin: string): void {
    if (first === undefined) {
      return;
    }
    if (first === "") {
      this.owners.clear(this.#container.id, Field.Args, plugin);
    }
    this.owners.claim(this.#container.id, Field.Args, plugin);
    this.#adjust.args = first === "" ? rest : [first, ...rest];
    this.#container.args = [...this.#adjust.args];
  }

  #adjustHooks(hooks: Hooks | undefined, plugin: string): void {
    const added = hookKinds.filter((kind) => (hooks?.[kind].length ?? 0) > 0);
    for (const kind of added) {
      this.#adjust.hooks?.[kind].push(...(hooks?.[kind] ?? []));
      this.#container.hooks?.[kind].push(...(hooks?.[kind] ?? []));
    }
    if (added.length > 0) {
      this.owners.share(this.#container.id, Field.OciHooks, plugin);
    }
  }

  #adjustLinux(wanted: LinuxContainerAdjustment, plugin: string): void {
    const [id, linux, adjust, owners] = [this.#container.id, this.#linux, this.#linuxAdjust, this.owners];
    const devices = mergeLists(wanted.devices, {
      earlier: adjust.devices,
      present: linux.devices,
      nameOf: ({ path }) => path,
      nameOfPresent: ({ path }) => path,
      asPresent: (device) => device,
      owners: this.#named(Field.Devices, plugin),
    });
    [adjust.devices, linux.devices] = [devices.changes, devices.present];
    if (wanted.resources !== undefined) {
      const change = { owners, containerId: id, plugin };
      mergeResources((adjust.resources ??= emptyResources()), wanted.resources, change);
      // What may be set once is set in both; the second time nobody is asked.
      mergeResources((linux.resources ??= emptyResources()), wanted.resources, { ...change, owners: new Owners() });
    }
    if (wanted.cgroupsPath !== "") {
      owners.claim(id, Field.CgroupsPath, plugin);
      linux.cgroupsPath = wanted.cgroupsPath;
      adjust.cgroupsPath = wanted.cgroupsPath;
    }
    for (const [name, field] of Object.entries(wholeParts) as [keyof typeof wholeParts, Field][]) {
      if (wanted[name] !== undefined) {
        owners.claim(id, field, plugin);
        Object.assign(linux, { [name]: wanted[name] });
        Object.assign(adjust, { [name]: wanted[name] });
      }
    }
    if (wanted.memoryPolicy !== undefined) {
      owners.claim(id, Field.MemoryPolicy, plugin);
      adjust.memoryPolicy = wanted.memoryPolicy;
    }
    this.#adjustNamespaces(wanted, plugin);
    this.#adjustMapsOfLinux(wanted, plugin);
    this.#adjustRdt(wanted, plugin);
  }

  #adjustNamespaces({ namespaces }: LinuxContainerAdjustment, plugin: string): void {
    for (const namespace of namespaces) {
      const { name, isRemoval } = readMark(namespace.type);
      this.owners.claim(this.#container.id, Field.Namespace, plugin, name);
      this.#linux.namespaces = this.#linux.namespaces.filter(({ type }) => type !== name);
      if (!isRemoval) {
        this.#linux.namespaces.push(namespace);
      }
      this.#linuxAdjust.namespaces.push(namespace);
    }
  }

  #adjustMapsOfLinux({ sysctl, netDevices }: LinuxContainerAdjustment, plugin: string): void {
    mergeMaps(sysctl, {
      collected: this.#linuxAdjust.sysctl,
      present: this.#linux.sysctl,
      owners: this.#named(Field.Sysctl, plugin),
    });
    mergeMaps(netDevices, {
      collected: this.#linuxAdjust.netDevices,
      present: this.#linux.netDevices,
      owners: this.#named(Field.LinuxNetDevices, plugin),
    });
  }

  #adjustRdt({ rdt }: LinuxContainerAdjustment, plugin: string): void {
    if (rdt === undefined) {
      return;
    }
    const id = this.#container.id;
    if (rdt.remove) {
      for (const field of [Field.RdtClosID, Field.RdtSchemata, Field.RdtEnableMonitoring]) {
        this.owners.clear(id, field, plugin);
      }
      this.#linuxAdjust.rdt = create(LinuxRdtSchema, { remove: true });
    }
    const adjust = (this.#linuxAdjust.rdt ??= create(LinuxRdtSchema));
    for (const [name, field] of [
      ["closId", Field.RdtClosID],
      ["schemata", Field.RdtSchemata],
      ["enableMonitoring", Field.RdtEnableMonitoring],
    ] as const) {
      if (rdt[name] !== undefined) {
        this.owners.claim(id, field, plugin);
        Object.assign(adjust, { [name]: rdt[name], remove: false });
      }
    }
  }

  #named(field: Field, plugin: string): NamedChanges {
    return {
      claim: (name) => this.owners.claim(this.#container.id, field, plugin, name),
      clear: (name) => this.owners.clear(this.#container.id, field, plugin, name),
    };
  }
}
