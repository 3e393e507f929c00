import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Transfers } from "#gen/flotilla/transfers/v1/transfers_pb.ts";
import { bindService, type ServiceBinding } from "#wire/handler.ts";
import type { UnderWay } from "../progress/under-way.ts";

/** The private service that shows and ends what is under way. */
export function transfersService(underWay: UnderWay): ServiceBinding {
  return bindService(Transfers, {
    list: () => ({
      transfers: underWay.list().map(({ id, startedAtMs, movedBytes, knownBytes, bytesPerSecond, ...facts }) => ({
        ...facts,
        id: BigInt(id),
        startedAt: timestampFromMs(startedAtMs),
        movedBytes: BigInt(movedBytes),
        knownBytes: BigInt(knownBytes),
        bytesPerSecond: BigInt(bytesPerSecond),
      })),
    }),
    cancel: async ({ id }, { signal }) => {
      await underWay.cancel(Number(id), signal);
      return {};
    },
  });
}
