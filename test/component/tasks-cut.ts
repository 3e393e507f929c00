import assert from "node:assert/strict";
import type { DescService } from "@bufbuild/protobuf";
import { type Client, createClient } from "@connectrpc/connect";
import { privateSocketOf } from "#fleet/process-name.ts";
import { connectRpc } from "#wire/client.ts";
import { openMuteWay } from "../kit/mute-way.ts";
import type { TasksRig } from "./tasks-rig.ts";

/** Makes calls to a service of the tasks process that dies before anybody hears the answer. */
export type Cut<S extends DescService> = <T>(call: (client: Client<S>) => Promise<T>) => Promise<T>;

/**
 * Makes calls, kills the process when it has answered, and lets nobody hear it but the next process's repetition.
 *
 * @param touch - A call that changes nothing, so that the connection is open.
 * @param ways - Gets what has to be closed.
 */
export function cutting<S extends DescService>(
  rig: TasksRig,
  service: S,
  touch: (client: Client<S>) => Promise<unknown>,
  ways: AsyncDisposableStack,
): Cut<S> {
  return async (call) => {
    const way = ways.use(await openMuteWay(privateSocketOf(rig.state, "tasks")));
    const connection = connectRpc(way.socketPath, { keepsCalls: true });
    ways.defer(() => connection.close());
    const client = createClient(service, connection.transport);
    await touch(client);
    const swallowed = way.mute();
    const answer = call(client);
    await Promise.race([swallowed, answer.then(() => assert.fail("was answered"))]);
    await rig.endProcess("SIGKILL");
    way.unmute();
    await rig.startProcess();
    return await answer;
  };
}
