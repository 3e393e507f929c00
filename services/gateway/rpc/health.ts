import { aborted } from "#base/aborted.ts";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { type Health, HealthCheckResponse_ServingStatus as ServingStatus } from "#gen/grpc/health/v1/health_pb.ts";
import type { Handlers } from "#wire/handler.ts";

/**
 * Answers `grpc.health.v1.Health` as grpc-go's server does when only the daemon as a whole, the service "", is registered.
 *
 * @source google.golang.org/grpc health/server.go
 */
export function healthHandlers(): Handlers<typeof Health> {
  return {
    check: ({ service }) => {
      if (service !== "") {
        throw new FlotillaError(ErrorKind.NotFound, "unknown service");
      }
      return { status: ServingStatus.SERVING };
    },
    watch: async function* ({ service }, call) {
      yield { status: service === "" ? ServingStatus.SERVING : ServingStatus.SERVICE_UNKNOWN };
      await aborted(call.signal);
    },
  };
}
