/** Causes that are followed, since an error may be its own. */
const causesMax = 16;

/** What an entry of the log holds of an error. */
export interface LoggedError {
  /** The name of its class. */
  readonly type: string;
  /** Its message and those of its causes, with colons between. */
  readonly message: string;
  /** Its stack and those of its causes. */
  readonly stack: string;
  /** What else it says of itself, such as `code`, where that is a plain value: what it refers to may be of any size. */
  readonly [detail: string]: unknown;
}

/** Shows what was thrown: an error by its parts, anything else as it is. */
export function showError(thrown: unknown): unknown {
  if (!(thrown instanceof Error)) {
    return thrown;
  }
  const chain = [thrown, ...causesOf(thrown)];
  const details = Object.entries(thrown).filter(
    ([, value]) => !["object", "function", "symbol"].includes(typeof value),
  );
  const shown: LoggedError = {
    ...Object.fromEntries(details),
    type: thrown.constructor.name,
    message: chain.map(({ message }) => message).join(": "),
    stack: chain.map(({ stack, message }) => stack ?? message).join("\ncaused by: "),
    ...(thrown instanceof AggregateError ? { aggregateErrors: thrown.errors.slice(0, causesMax).map(showOne) } : {}),
  };
  return shown;
}

/** One of many, without those that it holds itself. */
function showOne(thrown: unknown): unknown {
  return thrown instanceof Error ? { type: thrown.constructor.name, message: thrown.message } : thrown;
}

function causesOf({ cause }: Error): Error[] {
  const causes: Error[] = [];
  for (let next = cause; next instanceof Error && causes.length < causesMax; next = next.cause) {
    causes.push(next);
  }
  return causes;
}
