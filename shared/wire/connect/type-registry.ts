import { createRegistry } from "@bufbuild/protobuf";
import { file_containerd_events_container } from "#gen/containerd/events/container_pb.ts";
import { file_containerd_events_content } from "#gen/containerd/events/content_pb.ts";
import { file_containerd_events_namespace } from "#gen/containerd/events/namespace_pb.ts";
import { file_containerd_events_sandbox } from "#gen/containerd/events/sandbox_pb.ts";
import { file_containerd_events_snapshot } from "#gen/containerd/events/snapshot_pb.ts";
import { file_containerd_events_task } from "#gen/containerd/events/task_pb.ts";
import { file_containerd_runc_v1_options } from "#gen/containerd/runc/v1/options_pb.ts";
import { file_containerd_services_images_v1_images } from "#gen/containerd/services/images/v1/images_pb.ts";
import { file_containerd_types_transfer_imagestore } from "#gen/containerd/types/transfer/imagestore_pb.ts";
import { file_containerd_types_transfer_importexport } from "#gen/containerd/types/transfer/importexport_pb.ts";
import { file_containerd_types_transfer_progress } from "#gen/containerd/types/transfer/progress_pb.ts";
import { file_containerd_types_transfer_registry } from "#gen/containerd/types/transfer/registry_pb.ts";
import { file_containerd_types_transfer_streaming } from "#gen/containerd/types/transfer/streaming_pb.ts";
import { file_containerd_types_transfer_transfer } from "#gen/containerd/types/transfer/transfer_pb.ts";
import { file_io_containerd_cgroups_v1_metrics } from "#gen/io/containerd/cgroups/v1/metrics_pb.ts";
import { file_io_containerd_cgroups_v2_metrics } from "#gen/io/containerd/cgroups/v2/metrics_pb.ts";
import { file_runtimeoptions_v1_options } from "#gen/runtimeoptions/v1/options_pb.ts";

/** The messages that travel inside `google.protobuf.Any`, for JSON and for filters over event fields. */
export const typeRegistry = createRegistry(
  file_containerd_events_container,
  file_containerd_events_content,
  file_containerd_events_namespace,
  file_containerd_events_sandbox,
  file_containerd_events_snapshot,
  file_containerd_events_task,
  file_containerd_runc_v1_options,
  file_containerd_services_images_v1_images,
  file_containerd_types_transfer_imagestore,
  file_containerd_types_transfer_importexport,
  file_containerd_types_transfer_progress,
  file_containerd_types_transfer_registry,
  file_containerd_types_transfer_streaming,
  file_containerd_types_transfer_transfer,
  file_io_containerd_cgroups_v1_metrics,
  file_io_containerd_cgroups_v2_metrics,
  file_runtimeoptions_v1_options,
);
