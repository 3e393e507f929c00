import { create } from "@bufbuild/protobuf";
import {
  type Container,
  type ContainerAdjustment,
  ContainerAdjustmentSchema,
  type ContainerUpdate,
  CreateContainerRequestSchema,
  Event,
  Plugin as PluginService,
  type PodSandbox,
  ValidateContainerAdjustmentRequestSchema,
} from "#gen/nri/pkg/api/v1alpha1/api_pb.ts";
import { CreateResult } from "../adjust/create-result.ts";
import { type ValidatorSettings, validateAdjustment } from "../adjust/default-validator.ts";
import type { PluginSet } from "./plugin-set.ts";

/** What plugins want to be done when a container is made. */
export interface Adjustment {
  readonly adjust: ContainerAdjustment;
  /** Changes of containers that are there. */
  readonly update: readonly ContainerUpdate[];
  /** Containers that are to be ended. */
  readonly evictions: readonly string[];
}

/**
 * Asks all plugins what they change of a container that is about to be made, and those that judge whether it may stand.
 *
 * @param describe - Makes the container as it would be without plugins, anew at each call.
 * @throws {@link FlotillaError} what a plugin says against it; `unknown` when two change the same, or the change may not stand.
 * @source containerd/nri v0.12 pkg/adaptation/adaptation.go `CreateContainer`, `validateContainerAdjustment`
 */
export async function askForAdjustment(
  plugins: PluginSet,
  {
    pod,
    describe,
    validator,
  }: {
    readonly pod: PodSandbox;
    readonly describe: () => Container;
    readonly validator: ValidatorSettings | undefined;
  },
): Promise<Adjustment> {
  const request = create(CreateContainerRequestSchema, { pod, container: describe() });
  const result = new CreateResult(request);
  const evictions: string[] = [];
  await plugins.each(async (plugin) => {
    const answer = await plugin.tell(Event.CREATE_CONTAINER, PluginService.method.createContainer, request);
    if (answer !== undefined) {
      result.apply(answer, plugin.name);
      evictions.push(...answer.evict.map(({ containerId }) => containerId));
    }
  });
  const { adjust = create(ContainerAdjustmentSchema), update } = result.response;
  const judgement = create(ValidateContainerAdjustmentRequestSchema, {
    pod,
    container: describe(),
    adjust,
    update,
    owners: result.owners.message,
    plugins: plugins.names(),
  });
  if (validator !== undefined) {
    validateAdjustment(validator, judgement);
  }
  await plugins.validate(judgement);
  return { adjust, update, evictions };
}
