import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { quote } from "#base/quote.ts";

/** Where the class of a container may stand. */
interface Annotations {
  /** Of the container itself. */
  readonly own: string;
  /** Of its pod, before the name of the container. */
  readonly ofContainer: string;
  /** Of its pod, for all containers. */
  readonly ofPod: string;
}

/** @source intel/goresctrl v0.12 pkg/blockio/kubernetes.go */
const blockIo: Annotations = {
  own: "io.kubernetes.cri.blockio-class",
  ofContainer: "blockio.resources.beta.kubernetes.io/container.",
  ofPod: "blockio.resources.beta.kubernetes.io/pod",
};

/** @source intel/goresctrl v0.12 pkg/rdt/kubernetes.go */
const rdt: Annotations = {
  own: "io.kubernetes.cri.rdt-class",
  ofContainer: "rdt.resources.beta.kubernetes.io/container.",
  ofPod: "rdt.resources.beta.kubernetes.io/pod",
};

/** What annotations say of a container. */
export interface ClassWishes {
  readonly containerName: string;
  readonly annotations: Readonly<Record<string, string>>;
  readonly podAnnotations: Readonly<Record<string, string>>;
  /** Whether the container is to run without a class where there are none. */
  readonly ignoresBlockIo: boolean;
  readonly ignoresRdt: boolean;
}

/**
 * Refuses a container that asks for a class of block I/O or of RDT, as containerd does where no classes are configured: it would run without what it relies on.
 *
 * @throws {@link FlotillaError} `unknown` with containerd's text.
 * @source containerd v2.3.4 internal/cri/server/blockio_linux.go `blockIOClassFromAnnotations`, rdt.go `rdtClassFromAnnotations`
 */
export function refuseClasses(wishes: ClassWishes): void {
  const { containerName, ignoresBlockIo, ignoresRdt } = wishes;
  const ioClass = classOf(blockIo, wishes) ?? "";
  if (ioClass !== "" && !ignoresBlockIo) {
    throw new FlotillaError(
      ErrorKind.Unknown,
      `failed to set blockio class: blockio disabled, refusing to set blockio class of container ${quote(containerName)} to ${quote(ioClass)}`,
    );
  }
  const rdtClass = classOf(rdt, wishes);
  if (rdtClass !== undefined && !ignoresRdt) {
    throw new FlotillaError(
      ErrorKind.Unknown,
      `failed to set RDT class: RDT not initialized, class ${quote(rdtClass)} not available`,
    );
  }
}

/** @source intel/goresctrl v0.12 pkg/kubernetes/annotations.go `ContainerClassFromAnnotations` */
function classOf(
  { own, ofContainer, ofPod }: Annotations,
  { containerName, annotations, podAnnotations }: ClassWishes,
): string | undefined {
  return annotations[own] ?? podAnnotations[`${ofContainer}${containerName}`] ?? podAnnotations[ofPod];
}
