import { aborted } from "#base/aborted.ts";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { type Health, HealthCheckResponse_ServingStatus as ServingStatus } from "#gen/grpc/health/v1/health_pb.ts";
import type { Handlers } from "#wire/handler.ts";

/**
 * Answers `grpc.health.v1.Health` as grpc-go's server does when only the daemon as a whole, the service "", is registered.
 *
 * @param crippled - Aborts when a process of the fleet was given up: from then on the daemon is not well, until it is restarted.
 * @source google.golang.org/grpc health/server.go
 */
export function healthHandlers(crippled: AbortSignal): Handlers<typeof Health> {
  const status = (): ServingStatus => (crippled.aborted ? ServingStatus.NOT_SERVING : ServingStatus.SERVING);
  return {
    check: ({ service }) => {
      if (service !== "") {
        throw new FlotillaError(ErrorKind.NotFound, "unknown service");
      }
      return { status: status() };
    },
    watch: async function* ({ service }, call) {
      if (service === "") {
        yield { status: status() };
        if (!crippled.aborted) {
          await aborted(AbortSignal.any([crippled, call.signal]));
          if (!call.signal.aborted) {
            yield { status: status() };
          }
        }
      } else {
        yield { status: ServingStatus.SERVICE_UNKNOWN };
      }
      await aborted(call.signal);
    },
  };
}
