import type { Any, Timestamp } from "@bufbuild/protobuf/wkt";

/** The record of a container, as far as tasks need it. */
export interface ContainerRecord {
  readonly id: string;
  /** Name of its runtime. */
  readonly runtime: string;
  readonly runtimeOptions: Any | undefined;
  readonly spec: Any | undefined;
  /** The sandbox that it belongs to, or "". */
  readonly sandbox: string;
  /** Where its root file system is kept, "" for nowhere. */
  readonly snapshotter: string;
  readonly snapshotKey: string;
  readonly createdAt: Timestamp | undefined;
}

/** Records that the metadata process keeps. */
export interface Records {
  /** @throws {@link FlotillaError} `not_found` with containerd's text. */
  getContainer(namespace: string, id: string): Promise<ContainerRecord>;
  /** Makes sure that there is a container. Costs no call where one was seen and none was removed since. @throws As {@link getContainer}. */
  requireContainer(namespace: string, id: string): Promise<void>;
  /** Who makes the sandbox of that id; undefined when none is on record. */
  findSandboxer(namespace: string, id: string): Promise<string | undefined>;
}

/** An event that this process tells instead of a runtime that can't any more. */
export interface TaskEvent {
  /** The same for the same event, however often it is told. */
  readonly messageId: string;
  readonly namespace: string;
  /** Such as `/tasks/exit`. */
  readonly topic: string;
  readonly event: Any;
}

/** The stream of events. */
export interface EventLog {
  /**
   * Publishes events in order, trying again until they are durable.
   *
   * @throws {@link FlotillaError} only when the process stops.
   */
  publish(events: readonly TaskEvent[]): Promise<void>;
}

/** Immutable bytes that the content process keeps. */
export interface Blobs {
  /** The path of a blob's file. */
  locate(namespace: string, digest: string): Promise<string>;
  /** Stores bytes as a blob. A blob that is there already is fine. */
  store(owner: BlobOwner, ref: string, bytes: AsyncIterable<Uint8Array>): Promise<StoredBlob>;
}

/** Whose blob it becomes. */
export interface BlobOwner {
  readonly namespace: string;
  /** The lease that holds it, or "". */
  readonly lease: string;
}

/** A blob that was stored. */
export interface StoredBlob {
  readonly digest: string;
  readonly sizeBytes: bigint;
}
