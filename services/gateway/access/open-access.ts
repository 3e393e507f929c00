import { ErrorKind, failure } from "#base/errors.ts";
import type { FleetConfig } from "#config/config.ts";
import { pluginTable } from "#config/defaults.ts";
import { pluginUri } from "#config/manifest.ts";
import type { Logger } from "#fleet/log.ts";
import type { RelayAccess } from "../relay/access.ts";
import { AccessControl } from "./access-control.ts";
import { AuditLog } from "./audit-log.ts";
import { methodFacts } from "./method-facts.ts";
import { accessPlugin } from "./plugin.ts";
import { PolicySource } from "./policy-source.ts";

/** A smaller log than this would turn over all the time. */
const logBytesMin = 4_096;

/**
 * Opens what the configuration says of access: policy and audit.
 *
 * @param resources - Gets the log of the audit.
 * @returns Undefined when it says nothing, so that calls are neither judged nor noted.
 * @throws What keeps the policy from being read, or the log from being opened.
 */
export function openAccess(config: FleetConfig, log: Logger, resources: AsyncDisposableStack): RelayAccess | undefined {
  const settings = pluginTable(config, pluginUri(accessPlugin));
  const path = settings.string("policy");
  const auditPath = settings.string("audit_log");
  if (path === "" && auditPath === "") {
    return undefined;
  }
  const bytesMax = settings.integer("audit_log_bytes_max");
  if (bytesMax < logBytesMin) {
    throw failure(ErrorKind.InvalidArgument, `audit_log_bytes_max must be at least ${logBytesMin}`);
  }
  const methods = methodFacts();
  const source =
    path === ""
      ? undefined
      : new PolicySource({
          path,
          methods: [...methods.keys()],
          onChange: () => log.info({ path }, "the policy has been read again"),
          onFailure: (error) => log.error({ err: error, path }, "the changed policy can't be used, the former one is"),
        });
  const audit =
    auditPath === ""
      ? undefined
      : resources.use(
          new AuditLog({
            path: auditPath,
            bytesMax,
            onFailure: (error) => log.error({ err: error, path: auditPath }, "the audit can't be written"),
          }),
        );
  return new AccessControl({
    policy: () => source?.get(),
    methods,
    audit: (record) => audit?.write(record),
  });
}
