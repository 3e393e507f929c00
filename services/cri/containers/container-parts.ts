import type { Changes } from "#fleet/calls/changes.ts";
import type { Logger } from "#fleet/log.ts";
import type { BlockIo } from "../block-io/block-io.ts";
import type { CdiDevices } from "../cdi/cdi-devices.ts";
import type { CriSettings } from "../config.ts";
import type { Images } from "../images/images.ts";
import type { CriPeers } from "../peers.ts";
import type { Selinux } from "../selinux/selinux.ts";
import type { ContainerTable } from "../store/container.ts";
import type { NameTable } from "../store/name-table.ts";
import type { PodTable } from "../store/pod.ts";
import type { ContainerEventSink } from "./container-event-sink.ts";
import type { ContainerObservers } from "./container-observers.ts";
import type { Exits } from "./exits.ts";
import type { Machine } from "./machine.ts";

/** What everything about containers works with. */
export interface ContainerParts {
  readonly peers: CriPeers;
  readonly settings: CriSettings;
  readonly images: Images;
  readonly pods: PodTable;
  readonly containers: ContainerTable;
  readonly names: NameTable;
  readonly machine: () => Promise<Machine>;
  readonly cdi: CdiDevices;
  readonly exits: Exits;
  readonly selinux: Selinux;
  /** Classes of block I/O; undefined where none are configured. */
  readonly blockIoClasses: ReadonlyMap<string, BlockIo> | undefined;
  readonly events: ContainerEventSink;
  readonly observers: ContainerObservers;
  /** Carries out each call once that changes something. */
  readonly changes: Changes;
  readonly log: Logger;
  readonly stopping: AbortSignal;
}
