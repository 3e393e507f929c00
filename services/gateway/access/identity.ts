import net from "node:net";
import { TLSSocket } from "node:tls";
import { peerGroupsOf, peerOf } from "#linux/socket.ts";
import type { Identity } from "./policy.ts";

/**
 * Tells who has connected: for a Unix socket the user and the groups that the kernel noted, for TCP the names in a certificate that has been verified.
 *
 * @throws {@link FlotillaError} `failed_precondition` when the socket is closed already.
 */
export function identityOf(socket: net.Socket): Identity {
  if (socket.remoteAddress === undefined && !(socket instanceof TLSSocket)) {
    const { uid, gid, pid } = peerOf(socket);
    return { kind: "user", uid, pid, gids: [gid, ...peerGroupsOf(socket)] };
  }
  const peer = `${socket.remoteAddress ?? ""}:${socket.remotePort ?? ""}`;
  if (!(socket instanceof TLSSocket) || !socket.authorized) {
    return { kind: "anonymous", peer };
  }
  const { subject, subjectaltname = "" } = socket.getPeerCertificate();
  const commonName = subject?.CN;
  return {
    kind: "certificate",
    // A subject with several common names has no one name.
    commonName: typeof commonName === "string" ? commonName : "",
    names: subjectaltname === "" ? [] : subjectaltname.split(", "),
    peer,
  };
}
