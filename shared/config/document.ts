import { parse, TomlError } from "smol-toml";
import { errorMessage } from "#base/errors.ts";
import { type Shaped, shapeValue } from "./shape.ts";
import { formatKey } from "./toml-table.ts";

/** The version of the configuration file that the fleet speaks. @source containerd v2.3.4 version/version.go `ConfigVersion` */
export const configVersion = 4;

/**
 * The keys of the configuration file, in the order in which it is written. The sections `grpc`, `ttrpc` and `metrics` and the
 * listener in `debug` exist up to version 3 and are moved to plugin tables.
 *
 * @source containerd v2.3.4 cmd/containerd/server/config/config.go `Config`
 */
export const documentShape = {
  fields: {
    version: "integer",
    root: "string",
    state: "string",
    temp: "string",
    debug: {
      fields: {
        level: "string",
        format: "string",
        log_trace_id: "boolean",
        address: "string",
        uid: "integer",
        gid: "integer",
      },
    },
    disabled_plugins: "strings",
    required_plugins: "strings",
    plugins: "tables",
    oom_score: "integer",
    cgroup: { fields: { path: "string" } },
    proxy_plugins: {
      each: {
        fields: {
          type: "string",
          address: "string",
          platform: "string",
          exports: { each: "string" },
          capabilities: "strings",
        },
      },
    },
    timeouts: { each: "string" },
    imports: "strings",
    stream_processors: {
      each: { fields: { accepts: "strings", returns: "string", path: "string", args: "strings", env: "strings" } },
    },
    grpc: {
      fields: {
        address: "string",
        tcp_address: "string",
        tcp_tls_ca: "string",
        tcp_tls_cert: "string",
        tcp_tls_key: "string",
        uid: "integer",
        gid: "integer",
        max_recv_message_size: "integer",
        max_send_message_size: "integer",
        tcp_tls_common_name: "string",
      },
    },
    ttrpc: { fields: { address: "string", uid: "integer", gid: "integer" } },
    metrics: { fields: { address: "string", grpc_histogram: "boolean" } },
  },
} as const;

/** A configuration file, or several merged. */
export type ConfigDocument = Shaped<typeof documentShape>;

/**
 * Reads the text of a configuration file.
 *
 * @param file - Its path, for errors and warnings.
 * @param warn - Is told of each key that nobody knows.
 * @throws Error with the row and the column of a syntax error, or with the key that has the wrong type.
 */
export function parseDocument(text: string, file: string, warn: (warning: string) => void): ConfigDocument {
  try {
    const table = parse(text, { integersAsBigInt: "asNeeded", unsafeKeyBehaviour: "throw" });
    return shapeValue(documentShape, table, (path) => {
      warn(`Ignoring unknown key in TOML: ${file}: ${formatKey(path)}`);
    });
  } catch (error) {
    if (error instanceof TomlError) {
      const [reason = ""] = error.message.replace(/^Invalid TOML document: /, "").split("\n");
      const position = `row ${error.line} column ${error.column}`;
      throw new Error(`failed to unmarshal TOML at ${position}: ${file}: ${reason}`, { cause: error });
    }
    throw new Error(`failed to unmarshal TOML: ${file}: ${errorMessage(error)}`, { cause: error });
  }
}
