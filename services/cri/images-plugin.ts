import type { Settings } from "#config/manifest.ts";
import type { PluginManifest } from "#fleet/manifest.ts";
import { deprecatedImageSettings } from "./deprecated-settings.ts";

const credentials: Settings = {
  username: { type: "string", default: "", about: "Name of the user." },
  password: { type: "string", default: "", about: "Password of the user." },
  auth: { type: "string", default: "", about: "Name and password, joined by a colon and in base64." },
  identitytoken: { type: "string", default: "", about: "Token that stands for the user." },
};

/** Images for the kubelet. @source containerd v2.3.4 internal/cri/config/config.go `ImageConfig`, config_unix.go `DefaultImageConfig` */
export const imagesPlugin = {
  type: "io.containerd.cri.v1",
  id: "images",
  reloads: [
    "discard_unpacked_layers",
    "image_pull_progress_timeout",
    "image_pull_with_sync_fs",
    "max_concurrent_downloads",
    "concurrent_layer_fetch_buffer",
    "runtime_platforms",
    "registry",
  ],
  settings: {
    snapshotter: { type: "string", default: "overlayfs", about: "Snapshotter that images are unpacked into." },
    disable_snapshot_annotations: {
      type: "boolean",
      default: true,
      about: "Whether snapshotters are not told which image and layer a snapshot is made of.",
    },
    discard_unpacked_layers: {
      type: "boolean",
      default: false,
      about: "Whether the compressed layers are given to the collector once they are unpacked.",
    },
    max_concurrent_downloads: { type: "integer", default: 3, about: "Layers of one image that are fetched at a time." },
    concurrent_layer_fetch_buffer: {
      type: "integer",
      default: 0,
      about: "Largest piece of a layer, in bytes, that is fetched beside others of the same layer; 0 for no pieces.",
    },
    image_pull_progress_timeout: {
      type: "string",
      default: "5m0s",
      about: "Time without progress after which a pull is given up.",
    },
    image_pull_with_sync_fs: {
      type: "boolean",
      default: false,
      about: "Whether a layer is flushed to disk before its snapshot is committed.",
    },
    stats_collect_period: { type: "integer", default: 10, about: "Seconds between two measurements of snapshots." },
    use_local_image_pull: {
      type: "boolean",
      default: false,
      about: "Whether images are pulled by this plugin itself instead of the Transfer service.",
    },
    pinned_images: {
      type: "names",
      default: { sandbox: "registry.k8s.io/pause:3.10.2" },
      each: { type: "string", about: "Reference of the image." },
      about: "Images that are never collected, by what they serve for.",
    },
    runtime_platforms: {
      type: "names",
      each: {
        type: "table",
        settings: {
          platform: { type: "string", default: "", about: "Platform of the images." },
          snapshotter: { type: "string", default: "", about: "Snapshotter that they are unpacked into." },
        },
        about: "What images for this runtime need.",
      },
      about: "Platforms and snapshotters of runtimes that differ from the rest, by the name of the runtime.",
    },
    registry: {
      type: "table",
      settings: {
        config_path: { type: "string", default: "", about: "Directory of hosts.toml files, by registry." },
        mirrors: {
          type: "names",
          each: {
            type: "table",
            settings: { endpoint: { type: "strings", default: [], about: "Addresses that are tried in this order." } },
            about: "Where this registry is found.",
          },
          about: "Mirrors by registry; config_path is the newer way.",
        },
        configs: {
          type: "names",
          each: {
            type: "table",
            settings: {
              auth: { type: "table", optional: true, settings: credentials, about: "Who we are at this registry." },
            },
            about: "How this registry is used.",
          },
          about: "Credentials by registry; config_path is the newer way.",
        },
        auths: {
          type: "names",
          each: { type: "table", settings: credentials, about: "Who we are at this address." },
          about: "Credentials by address; config_path is the newer way.",
        },
        headers: {
          type: "names",
          each: { type: "strings", about: "Values of the header." },
          about: "Headers of HTTP that are sent to every registry.",
        },
      },
      about: "Registries.",
    },
    image_decryption: {
      type: "table",
      settings: {
        key_model: { type: "string", default: "node", about: "Where keys of encrypted images are: on this machine." },
      },
      about: "Encrypted images.",
    },
  },
  deprecated: deprecatedImageSettings,
} as const satisfies PluginManifest;
