import type { DescMethod, DescService } from "@bufbuild/protobuf";
import { Containers } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import { Content } from "#gen/containerd/services/content/v1/content_pb.ts";
import { Diff } from "#gen/containerd/services/diff/v1/diff_pb.ts";
import { Events } from "#gen/containerd/services/events/v1/events_pb.ts";
import { Images } from "#gen/containerd/services/images/v1/images_pb.ts";
import { Introspection } from "#gen/containerd/services/introspection/v1/introspection_pb.ts";
import { Leases } from "#gen/containerd/services/leases/v1/leases_pb.ts";
import { Mounts } from "#gen/containerd/services/mounts/v1/mounts_pb.ts";
import { Namespaces } from "#gen/containerd/services/namespaces/v1/namespaces_pb.ts";
import { Controller, Store } from "#gen/containerd/services/sandbox/v1/sandbox_pb.ts";
import { Snapshots } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import { Streaming } from "#gen/containerd/services/streaming/v1/streaming_pb.ts";
import { Tasks } from "#gen/containerd/services/tasks/v1/tasks_pb.ts";
import { Transfer } from "#gen/containerd/services/transfer/v1/transfer_pb.ts";
import { Version } from "#gen/containerd/services/version/v1/version_pb.ts";
import { Health } from "#gen/grpc/health/v1/health_pb.ts";
import { ImageService, RuntimeService } from "#gen/runtime/v1/api_pb.ts";
import type { ProcessName } from "./process-name.ts";

/** One process of the fleet and the public methods that it answers. */
export interface FleetProcess {
  /** Names the socket, the process title, the log field and the folder under `services/`. */
  readonly name: ProcessName;
  /** Public services with the methods, by proto name, that this process answers: all, or those listed. */
  readonly answers: readonly (readonly [service: DescService, methods: "all" | readonly string[]])[];
}

/**
 * Which process answers which public method. Routes, sockets and the contract tests derive from this table, and it is the only place that
 * says so. How processes are started stands in `startup.ts`, and what they may do in `rights.ts`.
 */
export const fleet: readonly FleetProcess[] = [
  { name: "events", answers: [[Events, "all"]] },
  {
    name: "metadata",
    answers: [
      [Namespaces, "all"],
      [Containers, "all"],
      [Images, "all"],
      [Leases, "all"],
      [Store, "all"],
      [Content, ["Info", "Update", "List", "Delete"]],
      [Snapshots, ["Remove", "Stat", "Update", "List"]],
    ],
  },
  {
    name: "content",
    answers: [[Content, ["Read", "Write", "Status", "ListStatuses", "Abort"]]],
  },
  {
    name: "snapshots",
    answers: [
      [Snapshots, ["Prepare", "View", "Mounts", "Commit", "Usage", "Cleanup"]],
      [Diff, "all"],
      [Mounts, "all"],
    ],
  },
  {
    name: "tasks",
    answers: [
      [Tasks, "all"],
      [Controller, "all"],
    ],
  },
  {
    name: "transfer",
    answers: [
      [Transfer, "all"],
      [Streaming, "all"],
    ],
  },
  {
    name: "cri",
    answers: [
      [RuntimeService, "all"],
      [ImageService, "all"],
    ],
  },
  {
    name: "gateway",
    answers: [
      [Version, "all"],
      [Introspection, "all"],
      [Health, "all"],
    ],
  },
];

/** A public method and the process that answers it. */
export interface Route {
  readonly owner: ProcessName;
  readonly method: DescMethod;
}

/** Every public method by its path, `/package.Service/Method`. */
export function routesByPath(): Map<string, Route> {
  const routes = new Map<string, Route>();
  for (const { name, answers } of fleet) {
    for (const [service, methods] of answers) {
      for (const method of service.methods) {
        if (methods === "all" || methods.includes(method.name)) {
          routes.set(`/${service.typeName}/${method.name}`, { owner: name, method });
        }
      }
    }
  }
  return routes;
}
