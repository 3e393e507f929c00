import { wrapFailure } from "#base/errors.ts";
import { KeyedLock } from "#base/keyed-lock.ts";
import { quote } from "#base/quote.ts";
import { RuntimeService } from "#gen/runtime/v1/api_pb.ts";
import type { Handlers } from "#wire/handler.ts";
import type { Pod } from "../store/pod.ts";
import { podInfo } from "./pod-info.ts";
import type { PodParts } from "./pod-parts.ts";
import { filterPods, listedPods, podStatus } from "./pod-status.ts";
import { removePod } from "./remove-pod.ts";
import { runPod } from "./run-pod.ts";
import { stopPod } from "./stop-pod.ts";
import { updatePod } from "./update-pod.ts";

/** How many pods a message of a stream carries. @source containerd v2.3.4 internal/cri/server/sandbox_list.go */
const streamedMax = 100;

type PodCalls = Pick<
  Handlers<typeof RuntimeService>,
  | "runPodSandbox"
  | "stopPodSandbox"
  | "removePodSandbox"
  | "podSandboxStatus"
  | "listPodSandbox"
  | "streamPodSandboxes"
  | "updatePodSandboxResources"
>;

/** What the kubelet asks about pods. */
export function podCalls(parts: PodParts): PodCalls {
  const { pods, peers, changes } = parts;
  /** The kubelet stops and removes a pod again when it has waited too long for an answer. */
  const turns = new KeyedLock<string>();
  /** The pod, or undefined: what stops or removes one that is not there has nothing to do. */
  const findToEnd = (id: string): Pod | undefined => {
    try {
      return pods.find(id);
    } catch (error) {
      throw wrapFailure(error, `an error occurred when try to find sandbox ${quote(id)}`);
    }
  };
  const removeInTurn = (pod: Pod): Promise<void> =>
    turns.run([pod.id], async () => {
      if (pods.find(pod.id) === pod) {
        await removePod(parts, pod);
      }
    });
  return {
    runPodSandbox: changes.once(
      RuntimeService.method.runPodSandbox,
      undefined,
      async (request, { signal }, attempt) => {
        // The client does not know the one that a former process was making for this call.
        const made = attempt.noted === undefined ? undefined : pods.find(attempt.noted as string);
        if (made !== undefined) {
          await removeInTurn(made);
        }
        return { podSandboxId: await runPod(parts, request, { signal, onNamed: attempt.note }) };
      },
    ),
    stopPodSandbox: async ({ podSandboxId }) => {
      const pod = findToEnd(podSandboxId);
      if (pod !== undefined) {
        await turns.run([pod.id], () => stopPod(parts, pod));
      }
      return {};
    },
    removePodSandbox: async ({ podSandboxId }) => {
      const pod = findToEnd(podSandboxId);
      if (pod !== undefined) {
        await removeInTurn(pod);
      }
      return {};
    },
    podSandboxStatus: async ({ podSandboxId, verbose }) => {
      let pod: Pod;
      try {
        pod = pods.get(podSandboxId);
      } catch (error) {
        throw wrapFailure(error, "an error occurred when try to find sandbox");
      }
      return { status: podStatus(pod), info: verbose ? await podInfo(peers, pod) : {} };
    },
    listPodSandbox: ({ filter }) => listedPods.list(filterPods(pods, filter)),
    streamPodSandboxes: async function* ({ filter }) {
      yield* listedPods.pieces(filterPods(pods, filter), streamedMax);
    },
    updatePodSandboxResources: async ({ podSandboxId, overhead, resources }) => {
      let pod: Pod;
      try {
        pod = pods.get(podSandboxId);
      } catch (error) {
        throw wrapFailure(error, "failed to find sandbox");
      }
      await updatePod(parts, pod, { overhead, resources });
      return {};
    },
  };
}
