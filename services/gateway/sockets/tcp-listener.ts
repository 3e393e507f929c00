import { constants } from "node:crypto";
import { once } from "node:events";
import net from "node:net";
import { createServer, type SecureContextOptions, type TLSSocket } from "node:tls";
import { ErrorKind, errorMessage, failure } from "#base/errors.ts";
import type { PluginSettings } from "#config/settings.ts";
import type { Logger } from "#fleet/log.ts";
import type { MessageLimits } from "#wire/message-limits.ts";
import { Certificates } from "./certificates.ts";
import { messageLimitsOf } from "./message-sizes.ts";
import { parseTcpAddress, type TcpAddress } from "./tcp-address.ts";

/** Clients at a time. They come from other machines, and each costs memory and a connection to every process that it calls. */
const connectionsMax = 1_024;
/** How long a client may take to agree on keys. */
const handshakeMsMax = 10_000;
/** How long a silent connection is left alone before the kernel asks whether anybody is there. @source Go 1.26 net/tcpsock.go `KeepAliveConfig` */
const keepAliveMs = 15_000;

/** The socket for gRPC and Connect on TCP, as `[plugins."io.containerd.server.v1.grpc-tcp"]` says. */
export class TcpListener {
  readonly limits: MessageLimits;
  readonly #address: TcpAddress;
  readonly #certificates: Certificates | undefined;
  readonly #needsClientCertificate: boolean;
  readonly #commonName: string;
  readonly #log: Logger;

  /**
   * Reads settings and certificates. Nothing listens yet.
   *
   * @throws {@link FlotillaError} `invalid_argument` for settings that make no sense; what keeps the certificates from being used.
   * @source containerd v2.3.4 plugins/server/grpc/grpc.go `InitFn` of `grpc-tcp`
   */
  constructor(settings: PluginSettings, log: Logger) {
    const [certificate, key, authorities] = ["tls_cert", "tls_key", "tls_ca"].map((name) => settings.string(name)) as [
      string,
      string,
      string,
    ];
    this.#log = log;
    this.#address = parseTcpAddress(settings.string("address"));
    this.limits = messageLimitsOf(settings);
    this.#commonName = settings.string("tls_common_name");
    this.#needsClientCertificate = authorities !== "";
    if (certificate === "" && (key !== "" || authorities !== "")) {
      throw failure(ErrorKind.InvalidArgument, "tls_key and tls_ca need tls_cert");
    }
    if (this.#commonName !== "" && authorities === "") {
      throw failure(ErrorKind.InvalidArgument, "tls_common_name needs tls_ca");
    }
    if (certificate !== "") {
      log.info("setting up tls on tcp GRPC services...");
      this.#certificates = new Certificates({ certificate, key, authorities }, (error) =>
        log.warn({ err: error }, "changed certificates can't be used, the former ones are"),
      );
    }
    if (!this.#needsClientCertificate) {
      log.warn("clients over TCP need no certificate: whoever reaches the address may do everything");
    }
  }

  /**
   * Listens.
   *
   * @param onConnection - Gets each client that has shown what it has to show.
   * @throws Error in containerd's words when the address can't be had.
   */
  async listen(onConnection: (socket: net.Socket) => void): Promise<net.Server> {
    const server = this.#createServer(onConnection);
    server.maxConnections = connectionsMax;
    server.listen(this.#address);
    try {
      await once(server, "listening");
    } catch (error) {
      throw new Error(`failed to get listener for TCP grpc endpoint: ${errorMessage(error)}`, { cause: error });
    }
    const { address, port } = server.address() as net.AddressInfo;
    this.#log.info({ address: net.isIPv6(address) ? `[${address}]:${port}` : `${address}:${port}` }, "serving...");
    return server;
  }

  #createServer(onConnection: (socket: net.Socket) => void): net.Server {
    const options = { allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: keepAliveMs };
    const certificates = this.#certificates;
    if (certificates === undefined) {
      return net.createServer(options, onConnection);
    }
    const server = createServer(
      {
        ...options,
        ...contextOf(certificates),
        ALPNProtocols: ["h2", "http/1.1"],
        handshakeTimeout: handshakeMsMax,
        requestCert: this.#needsClientCertificate,
        rejectUnauthorized: this.#needsClientCertificate,
      },
      (socket) => {
        if (this.#mayEnter(socket)) {
          onConnection(socket);
        } else {
          socket.destroy();
        }
      },
    );
    // Before the handshake of this very connection.
    server.prependListener("connection", () => {
      if (certificates.refresh()) {
        server.setSecureContext(contextOf(certificates));
        this.#log.info("certificates have been read again");
      }
    });
    server.on("tlsClientError", (error, socket) => {
      this.#log.info({ err: error.message, peer: socket.remoteAddress }, "a client failed to agree on TLS");
    });
    return server;
  }

  #mayEnter(socket: TLSSocket): boolean {
    if (this.#commonName === "") {
      return true;
    }
    const { CN: commonName } = socket.getPeerCertificate().subject;
    const isRight = commonName === this.#commonName;
    if (!isRight) {
      this.#log.warn({ peer: socket.remoteAddress, commonName }, "refused a client whose certificate has another name");
    }
    return isRight;
  }
}

/** Sessions are not taken up again: each client is judged by its certificate and by those that sign it now. */
function contextOf({ options }: Certificates): SecureContextOptions {
  return { ...options, secureOptions: constants.SSL_OP_NO_TICKET };
}
