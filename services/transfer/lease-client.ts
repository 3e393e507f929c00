import { createClient } from "@connectrpc/connect";
import { quote } from "#base/quote.ts";
import { Leases } from "#gen/containerd/services/leases/v1/leases_pb.ts";
import type { RpcConnection } from "#wire/client.ts";
import { clientHeaders } from "#wire/headers.ts";
import type { LeaseLookup } from "./streams/lease-watch.ts";

/** How long the metadata process may take to answer. */
const answerMsMax = 30_000;

/** The leases that the metadata process keeps. */
export function connectLeases(metadata: RpcConnection): LeaseLookup {
  const client = createClient(Leases, metadata.transport);
  return {
    async existing(namespace, ids, signal) {
      const filters = ids.map((id) => `id==${quote(id)}`);
      const options = { headers: clientHeaders(namespace), signal, timeoutMs: answerMsMax };
      return new Set((await client.list({ filters }, options)).leases.map(({ id }) => id));
    },
  };
}
