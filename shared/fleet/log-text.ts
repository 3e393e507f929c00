import { quote } from "#base/quote.ts";

/** What containerd writes in place of pino's names. @source sirupsen/logrus v1.9 logrus.go `Level.MarshalText` */
const levelNames: Readonly<Record<string, string>> = { warn: "warning" };

/** The name of a level as containerd writes it. */
export function levelName(level: string): string {
  return levelNames[level] ?? level;
}

/** What may stand in a value without quotes. @source sirupsen/logrus v1.9 text_formatter.go `needsQuoting` */
const plain = /^[A-Za-z0-9\-._/@^+]*$/;
/** Those that need the place in the sources too. */
const graveLevels = new Set(["error", "fatal"]);

/**
 * Writes an entry of the log as containerd does with `format = "text"`: time, level and message, then the other fields by their names.
 * An error is its message, and where it is grave its stack.
 *
 * @param line - The entry as one JSON object.
 * @returns A line with its end.
 * @source sirupsen/logrus v1.9 text_formatter.go `(*TextFormatter).Format`
 */
export function formatAsText(line: string): string {
  const { time, level, msg, err, ...fields } = JSON.parse(line) as Readonly<Record<string, unknown>>;
  const error = typeof err === "object" && err !== null ? (err as Readonly<Record<string, unknown>>) : undefined;
  const named: Record<string, unknown> = {
    ...fields,
    ...(err === undefined ? {} : { error: error === undefined ? err : (error["message"] ?? error) }),
    ...(error?.["stack"] !== undefined && graveLevels.has(String(level)) ? { stack: error["stack"] } : {}),
  };
  const pairs = [
    // Always quoted there, since it has colons.
    `time=${quote(String(time))}`,
    `level=${String(level)}`,
    ...(msg === undefined ? [] : [`msg=${formatValue(msg)}`]),
    ...Object.keys(named)
      .sort()
      .map((name) => `${name}=${formatValue(named[name])}`),
  ];
  return `${pairs.join(" ")}\n`;
}

function formatValue(value: unknown): string {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return plain.test(text) ? text : quote(text);
}
