import type { ConfigurablePlugin } from "./manifest.ts";

/** Plugins for tests of the configuration, with a setting of each kind. They bear names that files of older versions know. */
export const testPlugins: readonly ConfigurablePlugin[] = [
  {
    type: "io.containerd.gc.v1",
    id: "scheduler",
    settings: {
      pause_threshold: { type: "number", default: 0.02, about: "A share." },
      deletion_threshold: { type: "integer", default: 0, about: "A count." },
      mutation_threshold: { type: "integer", default: 100, about: "Another count." },
      schedule_delay: { type: "duration", default: "0s", about: "A time." },
      startup_delay: { type: "duration", default: "100ms", about: "Another time." },
    },
  },
  {
    type: "io.containerd.service.v1",
    id: "diff-service",
    settings: {
      default: { type: "strings", default: ["walking"], about: "Names." },
      sync_fs: { type: "boolean", default: false, about: "A choice." },
    },
  },
  {
    type: "io.containerd.internal.v1",
    id: "tracing",
    settings: { service_name: { type: "string", about: "A text without a default." } },
  },
  {
    type: "io.containerd.monitor.task.v1",
    id: "cgroups",
    formerly: "io.containerd.monitor.v1.cgroups",
    settings: { no_prometheus: { type: "boolean", default: false, about: "A choice." } },
  },
  {
    type: "io.containerd.monitor.container.v1",
    id: "restart",
    formerly: "io.containerd.internal.v1.restart",
    settings: { interval: { type: "duration", default: "10s", about: "A time." } },
  },
  {
    type: "io.containerd.cri.v1",
    id: "runtime",
    settings: {
      containerd: {
        type: "table",
        settings: {
          runtimes: {
            type: "names",
            default: { runc: { runtime_type: "runc", options: { Root: "", Binary: "" } } },
            each: {
              type: "table",
              settings: {
                runtime_type: { type: "string", default: "", about: "A text." },
                annotations: { type: "strings", default: [], about: "Texts." },
                options: { type: "names", each: { type: "any", about: "Anything." }, about: "Values of any kind." },
              },
              about: "One of them.",
            },
            about: "Tables by names.",
          },
        },
        about: "A table in the table.",
      },
      cni: {
        type: "table",
        settings: { bin_dir: { type: "string", default: "", about: "A text." } },
        about: "Another table.",
      },
      auth: {
        type: "table",
        optional: true,
        settings: { user: { type: "string", default: "", about: "A text." } },
        about: "A table that need not be there.",
      },
      unpack: {
        type: "tables",
        settings: {
          platform: { type: "string", default: "", about: "A text." },
          types: { type: "strings", default: [], about: "Texts." },
        },
        about: "Tables in a list.",
      },
    },
  },
];
