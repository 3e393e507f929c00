import { encodeRecords } from "#wire/encoded-records.ts";
import { EncodedResponse } from "#wire/handler.ts";

/** A response that holds encoded records in field 1. */
export function encodedResponse(records: readonly Uint8Array[]): EncodedResponse {
  return new EncodedResponse(encodeRecords(records));
}
