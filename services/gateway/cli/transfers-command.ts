import net from "node:net";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { ErrorKind, failure, systemErrorCode } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { selectDaemonFlags } from "#config/flags.ts";
import { loadConfig } from "#config/load.ts";
import { privateSocketOf } from "#fleet/process-name.ts";
import { type Transfer, Transfers } from "#gen/flotilla/transfers/v1/transfers_pb.ts";
import { connectRpc } from "#wire/client.ts";
import type { Command, CommandInput } from "./command.ts";
import { print } from "./output.ts";

/** Shows the images that are on their way in and out, and ends a transfer. For whoever runs the daemon: the socket is private. */
export const transfersCommand: Command = {
  names: ["transfers"],
  usage: "Show the images that are on their way, or end a transfer",
  flags: [{ names: ["json"], isSwitch: true, usage: "Print JSON" }],
  commands: [
    {
      names: ["cancel"],
      usage: "End the transfer with this number; its client gets an error",
      run: cancel,
    },
  ],
  run: list,
};

/** Longer than a transfer takes to end. */
const callMsMax = 60_000;

async function list({ globals, switches }: CommandInput): Promise<void> {
  const transfers = await withTransfers(
    globals,
    async (client) => (await client.list({}, { timeoutMs: callMsMax })).transfers,
    [],
  );
  if (switches.has("json")) {
    await print(JSON.stringify(transfers.map(toRecord), undefined, 2));
  } else {
    await print(transfers.length === 0 ? "none" : table(transfers));
  }
}

async function cancel({ globals, rest }: CommandInput): Promise<void> {
  const [text = "", ...more] = rest;
  if (!/^\d{1,18}$/.test(text) || more.length > 0) {
    throw failure(ErrorKind.InvalidArgument, `the number of one transfer is wanted, not ${quote(rest.join(" "))}`);
  }
  const found = await withTransfers(
    globals,
    async (client) => {
      await client.cancel({ id: BigInt(text) }, { timeoutMs: callMsMax });
      return true;
    },
    false,
  );
  if (!found) {
    throw failure(ErrorKind.NotFound, `transfer ${text}`);
  }
}

/** Asks the transfer process if it runs; it is not started for the sake of a question. */
async function withTransfers<T>(
  globals: CommandInput["globals"],
  ask: (client: ReturnType<typeof createClient<typeof Transfers>>) => Promise<T>,
  otherwise: T,
): Promise<T> {
  const { config } = await loadConfig(selectDaemonFlags(globals), []);
  const socketPath = privateSocketOf(config.state, "transfer");
  if (!(await isServed(socketPath))) {
    return otherwise;
  }
  const connection = connectRpc(socketPath);
  try {
    return await ask(createClient(Transfers, connection.transport));
  } finally {
    connection.close();
  }
}

function isServed(socketPath: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = net.connect(socketPath, () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", (error) => {
      const code = systemErrorCode(error) ?? "";
      if (["ENOENT", "ECONNREFUSED"].includes(code)) {
        resolve(false);
      } else {
        reject(error);
      }
    });
  });
}

function toRecord(transfer: Transfer): object {
  const { id, namespace, kind, subject, startedAt, movedBytes, knownBytes, bytesPerSecond, waitingClients } = transfer;
  return {
    id: Number(id),
    namespace,
    kind,
    subject,
    startedAt: startedAt === undefined ? null : new Date(timestampMs(startedAt)).toISOString(),
    movedBytes: Number(movedBytes),
    knownBytes: Number(knownBytes),
    bytesPerSecond: Number(bytesPerSecond),
    waitingClients,
  };
}

function table(transfers: readonly Transfer[]): string {
  const rows = transfers.map((transfer) => [
    String(transfer.id),
    transfer.namespace,
    transfer.kind,
    transfer.knownBytes === 0n
      ? size(transfer.movedBytes)
      : `${size(transfer.movedBytes)} of ${size(transfer.knownBytes)}`,
    `${size(transfer.bytesPerSecond)}/s`,
    String(transfer.waitingClients),
    transfer.subject,
  ]);
  const lines = [["ID", "NAMESPACE", "KIND", "BYTES", "RATE", "WAITING", "IMAGE"], ...rows];
  const widths = (lines[0] ?? []).map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  return lines
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

function size(bytes: bigint): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = Number(bytes);
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit += 1) {
    value /= 1024;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}
