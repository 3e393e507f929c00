import type { DescMethod } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import type { MetricsConfig } from "#config/config.ts";
import type { ServiceBinding } from "#wire/handler.ts";
import { tableOfMethods } from "#wire/method-table.ts";
import type { CallObserver, CallWatcher } from "#wire/observe.ts";
import { encodeLabels, FamilyBuilder, type MetricFamily } from "./family.ts";
import { DurationHistogram } from "./histogram.ts";

/** Codes by their number, named as grpc-go names them. @source grpc-go v1.75 codes/code_string.go */
const codeNames = [
  "OK",
  "Canceled",
  "Unknown",
  "InvalidArgument",
  "DeadlineExceeded",
  "NotFound",
  "AlreadyExists",
  "PermissionDenied",
  "ResourceExhausted",
  "FailedPrecondition",
  "Aborted",
  "OutOfRange",
  "Unimplemented",
  "Internal",
  "Unavailable",
  "DataLoss",
  "Unauthenticated",
] as const;

const methodTypes: Readonly<Record<DescMethod["methodKind"], string>> = {
  unary: "unary",
  client_streaming: "client_stream",
  server_streaming: "server_stream",
  bidi_streaming: "bidi_stream",
};

/**
 * Counts the calls of clients, under the names of containerd. Nothing is made for a call: each method has one watcher for all its calls.
 *
 * @source grpc-ecosystem/go-grpc-middleware providers/prometheus v1.1 server_metrics.go
 */
export class CallCounts {
  readonly observer: CallObserver;
  readonly #methods: ReadonlyMap<string, MethodCounts>;
  readonly #hasHistogram: boolean;

  constructor(services: readonly ServiceBinding[], { hasHistogram }: { readonly hasHistogram: boolean }) {
    const methods = new Map<string, MethodCounts>();
    for (const { path, method } of tableOfMethods(services).values()) {
      methods.set(path, new MethodCounts(method, hasHistogram));
    }
    this.#methods = methods;
    this.#hasHistogram = hasHistogram;
    this.observer = {
      start: (_side, rpc) => {
        const counts = methods.get(rpc);
        counts?.start();
        return counts;
      },
    };
  }

  /** What was counted so far. Every method and every code is there from the beginning, so that rates can be taken of the first call. */
  families(): MetricFamily[] {
    const started = new FamilyBuilder(
      "counter",
      "grpc_server_started_total",
      "Total number of RPCs started on the server.",
    );
    const handled = new FamilyBuilder(
      "counter",
      "grpc_server_handled_total",
      "Total number of RPCs completed on the server, regardless of success or failure.",
    );
    const received = new FamilyBuilder(
      "counter",
      "grpc_server_msg_received_total",
      "Total number of RPC stream messages received on the server.",
    );
    const sent = new FamilyBuilder(
      "counter",
      "grpc_server_msg_sent_total",
      "Total number of gRPC stream messages sent by the server.",
    );
    const durations = new FamilyBuilder(
      "histogram",
      "grpc_server_handling_seconds",
      "Histogram of response latency (seconds) of gRPC that had been application-level handled by the server.",
    );
    for (const counts of this.#methods.values()) {
      const { labels } = counts;
      started.addEncoded(started.name, labels, counts.started);
      received.addEncoded(received.name, labels, counts.received);
      sent.addEncoded(sent.name, labels, counts.sent);
      for (const [code, name] of codeNames.entries()) {
        handled.addEncoded(handled.name, `grpc_code="${name}",${labels}`, counts.handled[code] ?? 0);
      }
      counts.durations?.addTo(durations, labels);
    }
    return [started, handled, received, sent, ...(this.#hasHistogram ? [durations] : [])];
  }
}

/** Counts the calls of clients if somebody wants to know. */
export function openCallCounts(
  { address, hasHistogram }: MetricsConfig,
  services: readonly ServiceBinding[],
): CallCounts | undefined {
  return address === "" ? undefined : new CallCounts(services, { hasHistogram });
}

class MethodCounts implements CallWatcher {
  readonly labels: string;
  started = 0;
  received = 0;
  sent = 0;
  readonly handled = new Float64Array(codeNames.length);
  readonly durations: DurationHistogram | undefined;

  constructor({ name, parent, methodKind }: DescMethod, hasHistogram: boolean) {
    this.labels = encodeLabels({
      grpc_method: name,
      grpc_service: parent.typeName,
      grpc_type: methodTypes[methodKind],
    });
    this.durations = hasHistogram ? new DurationHistogram() : undefined;
  }

  start(): void {
    this.started += 1;
  }

  requestMessage(): void {
    this.received += 1;
  }

  responseMessage(): void {
    this.sent += 1;
  }

  end(code: Code = Code.Unknown, beganMs: number): void {
    this.handled[code] = (this.handled[code] ?? 0) + 1;
    this.durations?.observe((performance.now() - beganMs) / 1000);
  }
}
