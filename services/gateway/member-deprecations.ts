import { createClient } from "@connectrpc/connect";
import type { FleetConfig } from "#config/config.ts";
import type { NotedDeprecation } from "#fleet/noted-deprecations.ts";
import { privateSocketOf } from "#fleet/process-name.ts";
import { isEnabled } from "#fleet/startup.ts";
import { Member } from "#gen/flotilla/fleet/v1/fleet_pb.ts";
import { connectRpc } from "#wire/client.ts";

/** The processes that see what clients and plugins use. */
const watchful = ["tasks", "cri"] as const;
/** How long one of them may take to answer; one that is just being started is asked the next time. */
const answerMsMax = 1_000;

/**
 * Makes what asks the processes for deprecations that they have seen in use. What a process has told once is remembered for as long as the daemon
 * runs, as containerd does, also when that process has died since.
 */
export function memberDeprecations(config: FleetConfig): () => Promise<NotedDeprecation[]> {
  const known = new Map<string, NotedDeprecation>();
  return async () => {
    const names = watchful.filter((name) => isEnabled(name, config.disabledPlugins));
    await Promise.all(
      names.map(async (name) => {
        const connection = connectRpc(privateSocketOf(config.state, name));
        try {
          const { deprecations } = await createClient(Member, connection.transport).deprecations(
            {},
            { timeoutMs: answerMsMax },
          );
          for (const { id, message, lastOccurrence } of deprecations) {
            if (lastOccurrence !== undefined) {
              known.set(id, { id, message, lastOccurrence });
            }
          }
        } catch {
          // What it has seen is told when it is there again.
        } finally {
          connection.close();
        }
      }),
    );
    return [...known.values()];
  };
}
