import { type Client, createClient } from "@connectrpc/connect";
import { timerMsMax } from "#base/limits.ts";
import type { ProcessContext } from "#fleet/run.ts";
import { Containers } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import { Content } from "#gen/containerd/services/content/v1/content_pb.ts";
import { Diff } from "#gen/containerd/services/diff/v1/diff_pb.ts";
import { Events } from "#gen/containerd/services/events/v1/events_pb.ts";
import { Images } from "#gen/containerd/services/images/v1/images_pb.ts";
import { Leases } from "#gen/containerd/services/leases/v1/leases_pb.ts";
import { Namespaces } from "#gen/containerd/services/namespaces/v1/namespaces_pb.ts";
import { Controller, Store } from "#gen/containerd/services/sandbox/v1/sandbox_pb.ts";
import { Snapshots } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import { Streaming } from "#gen/containerd/services/streaming/v1/streaming_pb.ts";
import { Tasks } from "#gen/containerd/services/tasks/v1/tasks_pb.ts";
import { Transfer } from "#gen/containerd/services/transfer/v1/transfer_pb.ts";
import { EventLog } from "#gen/flotilla/events/v1/log_pb.ts";
import { Member } from "#gen/flotilla/fleet/v1/fleet_pb.ts";
import type { RpcConnection } from "#wire/client.ts";
import { clientHeaders } from "#wire/headers.ts";

/** Where everything of the kubelet lives. @source containerd v2.3.4 internal/cri/constants/constants.go `K8sContainerdNamespace` */
export const criNamespace = "k8s.io";

/** How long another process may take for a call that only looks up or records. */
const answerMsMax = 60_000;

/** What is said about a call to a peer. */
export interface CriCall {
  /** Holds what the call makes. */
  readonly lease?: string;
  readonly signal?: AbortSignal;
  /** How long the call may take; a minute where nothing is said, `Infinity` for calls that wait for something to happen. */
  readonly timeoutMs?: number;
}

/** Options of a call that is made in the kubelet's namespace. */
export function criCall({ lease = "", signal, timeoutMs = answerMsMax }: CriCall = {}): {
  readonly headers: Record<string, string>;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
} {
  return {
    headers: clientHeaders(criNamespace, lease),
    ...(timeoutMs < timerMsMax ? { timeoutMs } : {}),
    ...(signal === undefined ? {} : { signal }),
  };
}

/** The other processes of the fleet, by what they are asked. */
export interface CriPeers {
  readonly containers: Client<typeof Containers>;
  readonly images: Client<typeof Images>;
  readonly leases: Client<typeof Leases>;
  readonly namespaces: Client<typeof Namespaces>;
  readonly sandboxes: Client<typeof Store>;
  /** Records of snapshots and of blobs. */
  readonly snapshotRecords: Client<typeof Snapshots>;
  readonly contentRecords: Client<typeof Content>;
  readonly snapshots: Client<typeof Snapshots>;
  readonly diff: Client<typeof Diff>;
  readonly snapshotsMember: Client<typeof Member>;
  readonly content: Client<typeof Content>;
  readonly tasks: Client<typeof Tasks>;
  readonly controller: Client<typeof Controller>;
  readonly tasksMember: Client<typeof Member>;
  readonly events: Client<typeof Events>;
  readonly eventLog: Client<typeof EventLog>;
  readonly transfer: Client<typeof Transfer>;
  readonly streaming: Client<typeof Streaming>;
  /** For clients of `#fleet/peers`. */
  readonly connections: Readonly<
    Record<"metadata" | "content" | "snapshots" | "tasks" | "events" | "transfer", RpcConnection>
  >;
}

/** Opens the connections, each when it is first used. */
export function connectPeers(context: Pick<ProcessContext, "connect">): CriPeers {
  const metadata = context.connect("metadata");
  const content = context.connect("content");
  const snapshots = context.connect("snapshots");
  const tasks = context.connect("tasks");
  const events = context.connect("events");
  const transfer = context.connect("transfer");
  return {
    containers: createClient(Containers, metadata.transport),
    images: createClient(Images, metadata.transport),
    leases: createClient(Leases, metadata.transport),
    namespaces: createClient(Namespaces, metadata.transport),
    sandboxes: createClient(Store, metadata.transport),
    snapshotRecords: createClient(Snapshots, metadata.transport),
    contentRecords: createClient(Content, metadata.transport),
    snapshots: createClient(Snapshots, snapshots.transport),
    diff: createClient(Diff, snapshots.transport),
    snapshotsMember: createClient(Member, snapshots.transport),
    content: createClient(Content, content.transport),
    tasks: createClient(Tasks, tasks.transport),
    controller: createClient(Controller, tasks.transport),
    tasksMember: createClient(Member, tasks.transport),
    events: createClient(Events, events.transport),
    eventLog: createClient(EventLog, events.transport),
    transfer: createClient(Transfer, transfer.transport),
    streaming: createClient(Streaming, transfer.transport),
    connections: { metadata, content, snapshots, tasks, events, transfer },
  };
}
