import { constants } from "node:os";
import { ErrorKind, FlotillaError, failure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { Signal } from "#gen/runtime/v1/api_pb.ts";
import { enumName } from "./enum-name.ts";

/** Signals that have no number of their own in Node.js. @source signal(7) */
const otherSignals: Readonly<Record<string, number>> = { SIGCLD: 17, SIGRTMIN: 34, SIGRTMAX: 64 };

/**
 * The name of a signal that the kubelet asks for, as images write it; "" for the runtime's own.
 *
 * @throws {@link FlotillaError} `invalid_argument` for a number that is no signal.
 * @source containerd v2.3.4 internal/cri/server/container_stop_signal.go
 */
export function signalName(signal: Signal): string {
  if (signal === Signal.RUNTIME_DEFAULT) {
    return "";
  }
  const name = enumName(Signal, signal);
  if (!name.startsWith("SIG")) {
    throw failure(ErrorKind.InvalidArgument, `unknown CRI stop signal ${signal}`);
  }
  return name.replace("PLUS", "+").replace("MINUS", "-");
}

/** The signal of a name, or the runtime's own for a name that the kubelet does not know. @source containerd v2.3.4 internal/cri/server/container_stop_signal.go `toCRISignal` */
export function signalOfName(name: string): Signal {
  const known: Readonly<Record<string, Signal>> = Signal;
  return known[name.replace("+", "PLUS").replace("-", "MINUS")] ?? Signal.RUNTIME_DEFAULT;
}

/**
 * The number of a signal, written as a number or a name with or without `SIG`, in any case.
 *
 * @throws {@link FlotillaError} `unknown`, in containerd's words.
 * @source moby/sys signal/signal.go `ParseSignal`
 */
export function signalNumber(text: string): number {
  const number = /^[+-]?\d{1,9}$/.test(text) ? Number(text) : namedSignal(text);
  if (number === undefined || number === 0) {
    throw new FlotillaError(ErrorKind.Unknown, `failed to parse stop signal ${quote(text)}: invalid signal: ${text}`);
  }
  return number;
}

function namedSignal(text: string): number | undefined {
  const upper = text.toUpperCase();
  const name = upper.startsWith("SIG") ? upper : `SIG${upper}`;
  const [, base = "", step = "0"] = /^(SIGRTMIN|SIGRTMAX)([+-]\d{1,2})?$/.exec(name) ?? [];
  if (base !== "") {
    const number = (otherSignals[base] ?? 0) + Number(step);
    return number >= 34 && number <= 64 ? number : undefined;
  }
  return otherSignals[name] ?? constants.signals[name as NodeJS.Signals];
}
