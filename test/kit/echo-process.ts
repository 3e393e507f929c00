import { serveRpc } from "#wire/server.ts";
import { bindEcho, plainEcho } from "./echo-service.ts";

/** A process that serves the echo service on the socket that its argument names, to be killed by tests. */
const [socketPath = ""] = process.argv.slice(2);
await serveRpc({ socketPath, services: [bindEcho(plainEcho)] });
process.send?.("ready");
