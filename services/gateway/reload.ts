import { createClient } from "@connectrpc/connect";
import { errorMessage } from "#base/errors.ts";
import type { FleetConfig } from "#config/config.ts";
import type { Logger } from "#fleet/log.ts";
import { type ProcessName, privateSocketOf } from "#fleet/process-name.ts";
import { type Reloader, tellReload } from "#fleet/reload.ts";
import { Member } from "#gen/flotilla/fleet/v1/fleet_pb.ts";
import { connectRpc } from "#wire/client.ts";

/** How long a process may take to read its configuration again. */
const reloadMsMax = 10_000;

/** What a reload of the fleet works with. */
export interface FleetReloadOptions {
  readonly config: FleetConfig;
  readonly log: Logger;
  readonly reloader: Reloader;
  /** The processes that run now. Those that do not will read the files when they start. */
  readonly running: () => readonly ProcessName[];
}

/**
 * Has the whole fleet read its configuration again: first the gateway, and when it can, all others. What has changed and what takes a start is
 * told in the log. A file that is wrong changes nothing anywhere.
 */
export async function reloadFleet({ config, log, reloader, running }: FleetReloadOptions): Promise<void> {
  try {
    const report = await reloader.reload();
    await Promise.all(
      running().map(async (name) => {
        try {
          await reloadMember(config, name);
        } catch (error) {
          log.error({ member: name, err: errorMessage(error) }, "a process has not reloaded its configuration");
        }
      }),
    );
    tellReload(log, report);
  } catch (error) {
    log.error({ err: error }, "configuration is not reloaded");
  }
}

async function reloadMember(config: FleetConfig, name: ProcessName): Promise<void> {
  const connection = connectRpc(privateSocketOf(config.state, name), { heldMsMax: reloadMsMax / 2 });
  try {
    await createClient(Member, connection.transport).reload({}, { timeoutMs: reloadMsMax });
  } finally {
    connection.close();
  }
}
