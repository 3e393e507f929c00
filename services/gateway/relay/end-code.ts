import type { Code } from "@connectrpc/connect";
import type { ReceivedHeaders } from "#wire/http2/header-intake.ts";
import type { HeaderList } from "#wire/http2/header-list.ts";
import { codeOfStatus } from "./answer.ts";

/** The code that a call ends with, if these fields of its response tell it. */
export function endCodeOf({ endStream, list }: ReceivedHeaders, contentType: string): Code | undefined {
  return endStream ? codeOfTrailers(list) : codeOfHead(contentType, list);
}

function codeOfTrailers(trailers: HeaderList): Code | undefined {
  const status = trailers.find("grpc-status");
  return status === undefined ? undefined : Number(status);
}

/** The Connect protocol tells the end of a unary call by the status in the head; others end behind what they say. */
function codeOfHead(contentType: string, head: HeaderList): Code | undefined {
  const isTold = contentType.startsWith("application/") && !/^application\/(?:grpc|connect\+)/.test(contentType);
  return isTold ? codeOfStatus(Number(head.find(":status"))) : undefined;
}
