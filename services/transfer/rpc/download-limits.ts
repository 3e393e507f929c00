import { ErrorKind, failure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import type { Call } from "#wire/handler.ts";
import { downloadLimitHeaders } from "#wire/headers.ts";
import type { DownloadLimits } from "../registry/ports.ts";

/**
 * The limits that whoever asks for a transfer wants for it alone.
 *
 * @throws {@link FlotillaError} `invalid_argument` for what is no whole number.
 */
export function downloadLimits(call: Pick<Call, "header">): Partial<DownloadLimits> {
  const limits = Object.entries(downloadLimitHeaders).flatMap(([key, header]) => {
    const text = call.header(header);
    return text === undefined ? [] : [[key, wholeNumber(header, text)] as const];
  });
  return Object.fromEntries(limits);
}

function wholeNumber(header: string, text: string): number {
  const number = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(number)) {
    throw failure(ErrorKind.InvalidArgument, `header ${header}: ${quote(text)} is no whole number`);
  }
  return number;
}
