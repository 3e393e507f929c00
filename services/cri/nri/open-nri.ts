import { ErrorKind, isFailure } from "#base/errors.ts";
import type { ProcessContext } from "#fleet/run.ts";
import { daemonVersion } from "#fleet/version.ts";
import type { CdiDevices } from "../cdi/cdi-devices.ts";
import type { CriSettings } from "../config.ts";
import { getRecord, specOf } from "../containers/container-record.ts";
import type { Containers } from "../containers/containers.ts";
import type { OciSpec } from "../containers/spec/oci-spec.ts";
import { stopContainer } from "../containers/stop.ts";
import { updateResources } from "../containers/update.ts";
import type { CriMetrics } from "../metrics/cri-metrics.ts";
import type { CriPeers } from "../peers.ts";
import type { PodTable } from "../store/pod.ts";
import { Nri, type NriPorts } from "./nri.ts";
import { readNriSettings } from "./nri-settings.ts";
import { listForPlugins } from "./observers.ts";

/** What plugins may do things to. */
export interface NriSubjects {
  readonly pods: PodTable;
  readonly containers: Containers;
}

/** What it works with. */
interface NriSources {
  readonly settings: CriSettings;
  readonly peers: CriPeers;
  readonly metrics: CriMetrics;
  readonly cdi: CdiDevices;
}

/**
 * Makes NRI as it is configured. It is started when everything that was there is known again.
 *
 * @param subjects - Asked for when a plugin first wants something.
 * @returns undefined when there is to be none.
 */
export function openNri(
  { config, log, resources, deprecations }: ProcessContext,
  { settings, peers, metrics, cdi }: NriSources,
  subjects: () => NriSubjects,
): Nri | undefined {
  const options = readNriSettings(config);
  if (options === undefined) {
    return undefined;
  }
  const specOfRecord = (id: string): Promise<OciSpec | undefined> => findSpec(peers, id);
  const ports: NriPorts = {
    list: () => listForPlugins(subjects().pods, subjects().containers.table),
    specOf: specOfRecord,
    // The record of a sandbox is that of its pause container.
    specOfPod: specOfRecord,
    updateResources: async (id, wanted) => {
      const { parts, table } = subjects().containers;
      await updateResources(parts, table.get(id), wanted);
    },
    evict: async (id) => {
      const { parts, table } = subjects().containers;
      await stopContainer(parts, table.get(id), { graceMs: 0 });
    },
    injectCdiDevices: (spec, names) => cdi.inject(spec, names),
    withoutHugepages: settings.disableHugetlbController,
  };
  return resources.use(
    new Nri(
      {
        ...options,
        runtimeName: "containerd",
        runtimeVersion: daemonVersion(),
        log,
        metrics: metrics.nri,
        deprecations,
      },
      ports,
    ),
  );
}

async function findSpec(peers: CriPeers, id: string): Promise<OciSpec | undefined> {
  try {
    return specOf(await getRecord(peers, id));
  } catch (error) {
    if (isFailure(error, ErrorKind.NotFound)) {
      return undefined;
    }
    throw error;
  }
}
