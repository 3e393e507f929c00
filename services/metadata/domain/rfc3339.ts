const pattern = /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)([.,]\d+)?(?:Z|([+-])(\d\d):(\d\d))$/;
const msPerMinute = 60_000;

/**
 * Reads a time as labels hold it, in ms since the epoch.
 *
 * @returns undefined for everything that is no time, such as the 30th of February.
 * @source RFC 3339 section 5.6; Go time/format_rfc3339.go `parseRFC3339`
 */
export function findRfc3339Ms(text: string): number | undefined {
  const match = pattern.exec(text);
  if (match === null) {
    return undefined;
  }
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = match.slice(1, 7).map(Number);
  const fraction = Number(`0.${(match[7] ?? ".0").slice(1)}`);
  const offsetMinutes = (Number(match[9] ?? 0) * 60 + Number(match[10] ?? 0)) * (match[8] === "-" ? -1 : 1);
  const time = new Date(0);
  time.setUTCFullYear(year, month - 1, day);
  const isDate = time.getUTCMonth() === month - 1 && time.getUTCDate() === day;
  if (!isDate || hour > 23 || minute > 59 || second > 59) {
    return undefined;
  }
  time.setUTCHours(hour, minute, second);
  return time.getTime() + fraction * 1000 - offsetMinutes * msPerMinute;
}
