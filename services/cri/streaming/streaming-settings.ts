import { readFileSync } from "node:fs";
import { hostname, networkInterfaces } from "node:os";
import { createSecureContext } from "node:tls";
import { parseDuration } from "#base/duration.ts";
import { ErrorKind, errorMessage, failure, wrapFailure } from "#base/errors.ts";
import type { FleetConfig } from "#config/config.ts";
import { pluginTable } from "#config/defaults.ts";
import { pluginUri } from "#config/manifest.ts";
import type { PluginSettings } from "#config/settings.ts";
import { serverPlugin } from "../server-plugin.ts";
import { type KeyPair, makeSelfSignedCertificate } from "./self-signed-certificate.ts";
import type { StreamingServerOptions } from "./streaming-server.ts";

/** Without a setting. @source k8s.io/cri-streaming pkg/streaming/server.go `DefaultConfig` */
const idleMsDefault = 4 * 3_600_000;

/**
 * Reads where and how streams are served. Certificates are read, or made, now.
 *
 * @throws {@link FlotillaError} `invalid_argument` for settings that do not go together; what was wrong with a file.
 * @source containerd v2.3.4 internal/cri/config/streaming.go `StreamingConfig`
 */
export function readStreamingSettings(config: FleetConfig): StreamingServerOptions {
  const table = pluginTable(config, pluginUri(serverPlugin));
  const address = table.string("stream_server_address");
  return {
    address: address === "" ? addressOfHost() : address,
    port: readPort(table.string("stream_server_port")),
    idleMs: readIdleMs(table.string("stream_idle_timeout")),
    tls: readTls(table),
  };
}

function readPort(text: string): number {
  if (!/^\d{1,5}$/.test(text) || Number(text) > 0xffff) {
    throw failure(ErrorKind.InvalidArgument, `stream_server_port "${text}" is no port`);
  }
  return Number(text);
}

function readIdleMs(text: string): number {
  if (text === "") {
    return idleMsDefault;
  }
  try {
    return parseDuration(text);
  } catch (error) {
    throw wrapFailure(error, "invalid stream idle timeout");
  }
}

function readTls(table: PluginSettings): KeyPair | undefined {
  const isOn = table.boolean("enable_tls_streaming");
  const files = table.table("x509_key_pair_streaming");
  const [certFile, keyFile] = [files.string("tls_cert_file"), files.string("tls_key_file")];
  if (!isOn) {
    const set = certFile !== "" ? "TLSCertFile" : keyFile !== "" ? "TLSKeyFile" : "";
    if (set !== "") {
      throw unfit(`X509KeyPairStreaming.${set} is set but EnableTLSStreaming is not set`);
    }
    return undefined;
  }
  if ((certFile === "") !== (keyFile === "")) {
    throw unfit(`must set X509KeyPairStreaming.${certFile === "" ? "TLSCertFile" : "TLSKeyFile"}`);
  }
  return certFile === "" ? certificateOfHost() : readKeyPair(certFile, keyFile);
}

function unfit(why: string): Error {
  return failure(ErrorKind.InvalidArgument, `invalid stream server configuration: ${why}`);
}

function readKeyPair(certFile: string, keyFile: string): KeyPair {
  try {
    const pair = { cert: readFileSync(certFile, "utf8"), key: readFileSync(keyFile, "utf8") };
    createSecureContext(pair);
    return pair;
  } catch (error) {
    throw failure(ErrorKind.InvalidArgument, `failed to load x509 key pair for stream server: ${errorMessage(error)}`, {
      cause: error,
    });
  }
}

function certificateOfHost(): KeyPair {
  const addresses = Object.values(networkInterfaces()).flatMap((ones = []) => ones.map(({ address }) => address));
  return makeSelfSignedCertificate(hostname(), [hostname(), ...addresses]);
}

/**
 * The address by which others reach this machine: that of the interface of the default route.
 *
 * @source k8s.io/apimachinery pkg/util/net/interface.go `ResolveBindAddress`; proc_net(5) `route`
 */
function addressOfHost(): string {
  const routes = readFileSync("/proc/net/route", "latin1").split("\n").slice(1);
  const [name = ""] =
    routes.map((route) => route.split("\t")).find(([, destination]) => destination === "00000000") ?? [];
  const found = networkInterfaces()[name]?.find(({ family, internal }) => family === "IPv4" && !internal);
  if (found === undefined) {
    throw failure(ErrorKind.NotFound, "failed to get stream server address: no address of a default route");
  }
  return found.address;
}
