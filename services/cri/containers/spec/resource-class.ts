import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import type { BlockIo } from "../../block-io/block-io.ts";

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
  /** Classes of block I/O; undefined where none are configured. */
  readonly blockIoClasses: ReadonlyMap<string, BlockIo> | undefined;
  /** Whether the container is to run without a class where there are none. */
  readonly ignoresBlockIo: boolean;
  readonly ignoresRdt: boolean;
}

/**
 * Finds the class of block I/O that a container asks for. One that asks for a class that is not there, of block I/O or of RDT, is refused, as containerd does:
 * it would run without what it relies on. There are none of RDT.
 *
 * @returns undefined for a container without a class.
 * @throws {@link FlotillaError} `unknown` with containerd's text.
 * @source containerd v2.3.4 internal/cri/server/blockio_linux.go `blockIOClassFromAnnotations`, rdt.go `rdtClassFromAnnotations`
 */
export function chooseClasses(wishes: ClassWishes): BlockIo | undefined {
  const { containerName, blockIoClasses, ignoresBlockIo, ignoresRdt } = wishes;
  const ioClass = classOf(blockIo, wishes) ?? "";
  if (ioClass !== "" && blockIoClasses === undefined && !ignoresBlockIo) {
    throw new FlotillaError(
      ErrorKind.Unknown,
      `failed to set blockio class: blockio disabled, refusing to set blockio class of container ${quote(containerName)} to ${quote(ioClass)}`,
    );
  }
  const chosen = ioClass === "" ? undefined : blockIoClasses?.get(ioClass);
  if (ioClass !== "" && blockIoClasses !== undefined && chosen === undefined) {
    throw new FlotillaError(ErrorKind.Unknown, `no OCI BlockIO parameters for class ${quote(ioClass)}`);
  }
  const rdtClass = classOf(rdt, wishes);
  if (rdtClass !== undefined && !ignoresRdt) {
    throw new FlotillaError(
      ErrorKind.Unknown,
      `failed to set RDT class: RDT not initialized, class ${quote(rdtClass)} not available`,
    );
  }
  return chosen;
}

/** @source intel/goresctrl v0.12 pkg/kubernetes/annotations.go `ContainerClassFromAnnotations` */
function classOf(
  { own, ofContainer, ofPod }: Annotations,
  { containerName, annotations, podAnnotations }: ClassWishes,
): string | undefined {
  return annotations[own] ?? podAnnotations[`${ofContainer}${containerName}`] ?? podAnnotations[ofPod];
}
